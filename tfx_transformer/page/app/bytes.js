// Texts as UTF-8.

export const REPLACEMENT = '\ufffd';
const toUtf8 = new TextEncoder();

/** The UTF-8 bytes of a text as a string of one character a byte; a lone surrogate is U+FFFD. */
export function bytesOf(text) {
  let bytes = '';
  for (const byte of toUtf8.encode(text)) bytes += String.fromCharCode(byte);
  return bytes;
}

/** The text of such a string; bytes that are not UTF-8 become U+FFFD. */
export function textOf(bytes) {
  return newDecoder().decode(arrayOf(bytes));
}

/** The bytes of such a string as an array. */
export function arrayOf(bytes) {
  return Uint8Array.from(bytes, (byte) => byte.charCodeAt(0));
}

/** A decoder of UTF-8, which keeps a byte order mark. */
export function newDecoder() {
  return new TextDecoder('utf-8', {ignoreBOM: true});
}

/** The text with U+FFFD for every lone surrogate. */
export function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, REPLACEMENT);
}
