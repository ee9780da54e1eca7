// The places where a text may be cut in two, between words, as `text.words` of the package has them.

const MARK = /\p{M}/u;
const ENDS_LINE = /[\p{Cc}\p{Zl}\p{Zp}]/u;
const EXTENDING =
  /[\u200c\u200d\uff9e\uff9f\u0e33\u0eb3\u{1f3fb}-\u{1f3ff}\u{e0020}-\u{e007f}]/u;
const FLAG_LETTER = /[\u{1f1e6}-\u{1f1ff}]/u;
const PICTURE = new RegExp(
  '[\\u00a9\\u00ae\\u203c-\\u2bff\\u3030\\u303d\\u3297\\u3299\\u{1f000}-\\u{1f1e5}' +
  '\\u{1f200}-\\u{1f3fa}\\u{1f400}-\\u{1faff}]', 'u');
const VIRAMA = /[\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d]/u;
const CONSONANT = new RegExp(
  '[\\u0915-\\u0939\\u0958-\\u095f\\u0978-\\u097f\\u0995-\\u09b9\\u09dc-\\u09df\\u0a95-\\u0ab9' +
  '\\u0b15-\\u0b39\\u0c15-\\u0c39\\u0d15-\\u0d3a]', 'u');
// Letters of scripts that are written without spaces, or with particles joined to words.
const UNSPACED = new RegExp(
  '[\\u0e00-\\u0fff\\u1000-\\u109f\\u1100-\\u11ff\\u1780-\\u17ff\\u1950-\\u19df\\u1a20-\\u1aad' +
  '\\u3005-\\u3007\\u3031-\\u3035\\u3040-\\u30ff\\u3130-\\u318f\\u31f0-\\u31ff\\u3400-\\u4dbf' +
  '\\u4e00-\\u9fff\\ua000-\\ua4cf\\ua960-\\ua97f\\ua9e0-\\ua9ff\\uaa60-\\uaadf\\uac00-\\ud7ff' +
  '\\uf900-\\ufaff\\uff66-\\uff9f\\u{20000}-\\u{3ffff}]', 'u');
const SYLLABLE_PARTS = [
  ['L', '\u1100', '\u115f'],
  ['V', '\u1160', '\u11a7'],
  ['T', '\u11a8', '\u11ff'],
  ['L', '\ua960', '\ua97c'],
  ['V', '\ud7b0', '\ud7c6'],
  ['T', '\ud7cb', '\ud7fb'],
];
// The parts that may follow each part of a Korean syllable.
const JOINED = {
  L: ['L', 'V', 'LV', 'LVT'],
  LV: ['V', 'T'],
  V: ['V', 'T'],
  LVT: ['T'],
  T: ['T'],
};

function syllablePart(character) {
  const found = SYLLABLE_PARTS.find(([, first, last]) => first <= character && character <= last);
  if (found) return found[0];
  if (!('\uac00' <= character && character <= '\ud7a3')) return '';
  return (character.codePointAt(0) - 0xac00) % 28 ? 'LVT' : 'LV';
}

/** The place of the character that marks and joiners at a place go with. */
function base(characters, place) {
  while (place && (MARK.test(characters[place]) || EXTENDING.test(characters[place]))) place -= 1;
  return place;
}

/** True if a place is inside a character as people see it; characters: code points. */
function isInsideCharacter(characters, place) {
  if (!(place > 0 && place < characters.length)) return false;
  const [before, after] = [characters[place - 1], characters[place]];
  if (before < '\u0300' && after < '\u0300') return before === '\r' && after === '\n';
  if (ENDS_LINE.test(before)) return false;
  if (MARK.test(after) || EXTENDING.test(after)) return true;
  const first = base(characters, place - 1);
  if (PICTURE.test(after)) return before === '\u200d' && PICTURE.test(characters[first]);
  if (CONSONANT.test(after)) return characters.slice(first, place).some((one) => VIRAMA.test(one));
  if (FLAG_LETTER.test(before) && FLAG_LETTER.test(after)) {
    let start = place;
    while (start && FLAG_LETTER.test(characters[start - 1])) start -= 1;
    return (place - start) % 2 === 1;
  }
  return (JOINED[syllablePart(before)] ?? []).includes(syllablePart(after));
}

/** "L" of a letter that makes words with others, "N" of a digit, "" of all else. */
function kind(character) {
  if (/\p{N}/u.test(character)) return 'N';
  return /\p{L}/u.test(character) && !UNSPACED.test(character) ? 'L' : '';
}

/** True if a place is inside a word, or inside a character. */
export function isInsideWord(characters, place) {
  if (isInsideCharacter(characters, place)) return true;
  if (!(place > 0 && place < characters.length)) return false;
  const before = kind(characters[base(characters, place - 1)]);
  return before !== '' && before === kind(characters[place]);
}
