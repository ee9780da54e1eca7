// Texts to token ids and back, with the ids of the package's tokenizers in Python.

const SLICE = 20_000; // characters that Python encodes at a time
const REPLACEMENT = '\ufffd';
const toUtf8 = new TextEncoder();

/** The UTF-8 bytes of a text as a string of one character a byte; half a character is U+FFFD. */
function bytesOf(text) {
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

/** What turns UTF-8 into text. */
export function newDecoder() {
  return new TextDecoder('utf-8', {ignoreBOM: true});
}

/** A text in pieces of SLICE characters, as Python counts them. */
function* slices(text) {
  if (text.length <= SLICE) {
    if (text) yield text;
    return;
  }
  const characters = Array.from(text);
  for (let start = 0; start < characters.length; start += SLICE) {
    yield characters.slice(start, start + SLICE).join('');
  }
}

/**
 * Byte-level BPE: a text is split by a pattern; in each piece the two neighbours that were merged
 * first in training are merged, until no two neighbours make a token.
 *
 * spec: pattern, of a regular expression; tokens, as strings of one character a byte, the 256 bytes
 * first, then in the order of their merges; ids of these; others, [id, token] of those that no text
 * becomes; added, {text: id} of those that are cut out before all else, and cut, a pattern of these
 * and the special ones; compose, a pattern of what is brought to NFC; prefix: whether a text gets a
 * space before it.
 */
export class BytePairs {
  constructor(spec) {
    this.spec = spec;
    this.ranks = new Map(spec.tokens.map((token, rank) => [token, rank]));
    this.bytes = new Map(spec.tokens.map((token, rank) => [spec.ids[rank], token]));
    for (const [id, token] of spec.others) this.bytes.set(id, token);
    this.pattern = new RegExp(spec.pattern, 'gu');
    this.known = new Map(); // ids of pieces that were seen before
  }

  encode(text) {
    const ids = [];
    const {cut, added} = this.spec;
    let end = 0;
    for (const found of cut ? text.matchAll(new RegExp(cut, 'gu')) : []) {
      if (Object.hasOwn(added, found[0])) {
        this.#encode(text.slice(end, found.index), ids);
        ids.push(added[found[0]]);
        end = found.index + found[0].length;
      }
    }
    this.#encode(text.slice(end), ids);
    return ids;
  }

  #encode(text, ids) {
    const {compose, prefix} = this.spec;
    if (compose) text = text.replace(new RegExp(compose, 'gu'), (run) => run.normalize('NFC'));
    if (prefix && text && !text.startsWith(' ')) text = ` ${text}`;
    for (const slice of slices(text)) {
      for (const [piece] of slice.matchAll(this.pattern)) {
        let found = this.known.get(piece);
        if (!found) {
          found = this.#merge(bytesOf(piece)).map((token) => this.spec.ids[this.ranks.get(token)]);
          if (this.known.size > 50_000) this.known.clear();
          if (piece.length < 50) this.known.set(piece, found);
        }
        for (const id of found) ids.push(id);
      }
    }
  }

  /** The tokens of a piece. */
  #merge(piece) {
    if (this.ranks.has(piece)) return [piece];
    const parts = Array.from(piece);
    const rankAt = (index) => this.ranks.get(parts[index] + parts[index + 1]) ?? Infinity;
    const ranks = parts.slice(1).map((_, index) => rankAt(index)); // of each pair of neighbours
    for (;;) {
      let best = -1;
      let lowest = Infinity;
      for (let index = 0; index < ranks.length; index++) {
        if (ranks[index] < lowest) [best, lowest] = [index, ranks[index]];
      }
      if (best < 0) return parts;
      parts.splice(best, 2, parts[best] + parts[best + 1]);
      ranks.splice(best, 1);
      if (best < ranks.length) ranks[best] = rankAt(best);
      if (best > 0) ranks[best - 1] = rankAt(best - 1);
    }
  }

  /** The bytes of an id, one character a byte; of a special one none. */
  bytesOf(id) {
    return this.bytes.get(id) ?? '';
  }

  /** The text of ids; special ids are left out. */
  decode(ids) {
    return textOf(ids.map((id) => this.bytesOf(id)).join(''));
  }

  /** [what is shown, whether it is part of a character] of each id of a text. */
  shown(ids) {
    return ids.map((id) => {
      const bytes = this.bytesOf(id);
      const text = textOf(bytes);
      if (bytesOf(text) === bytes) return [text, false];
      return [Array.from(arrayOf(bytes), (b) => b.toString(16).padStart(2, '0')).join(' '), true];
    });
  }
}

/**
 * WordPiece behind BERT's normalizer (Devlin et al. 2019): words are cut into the longest pieces of
 * the vocabulary, from their beginning.
 *
 * spec: vocabulary, {piece: id}; names, {id: piece}; unknown, an id; continued, the mark of a piece
 * inside a word; longest, characters of a word; clean, chinese, accents (to be stripped), lower:
 * what the normalizer does; signs, marks, controls: the characters that count as such.
 */
export class WordPieces {
  constructor(spec) {
    this.spec = spec;
    this.vocabulary = new Map(Object.entries(spec.vocabulary));
    this.names = new Map(Object.entries(spec.vocabulary).map(([name, id]) => [id, name]));
    this.controls = new RegExp(`[${spec.controls}]`, 'gu');
    this.marks = new RegExp(`[${spec.marks}]`, 'gu');
    this.word = new RegExp(`[${spec.signs}]|[^\\p{White_Space}${spec.signs}]+`, 'gu');
  }

  encode(text) {
    const ids = [];
    for (const word of this.#words(this.#normalize(text.toWellFormed?.() ?? wellFormed(text)))) {
      for (const id of this.#pieces(Array.from(word))) ids.push(id);
    }
    return ids;
  }

  #normalize(text) {
    const {clean, chinese, accents, lower} = this.spec;
    if (clean) {
      text = text.replace(this.controls, '');
      text = text.replace(/\p{White_Space}/gu, ' ');
    }
    if (chinese) text = text.replace(CHINESE, ' $& ');
    if (accents) text = text.normalize('NFD').replace(this.marks, '');
    if (lower) text = Array.from(text, (character) => character.toLowerCase()).join('');
    return text;
  }

  /** Between blanks, every sign of punctuation by itself. */
  #words(text) {
    return text.match(this.word) ?? [];
  }

  #pieces(word) {
    const {unknown, continued, longest} = this.spec;
    if (word.length > longest) return [unknown];
    const ids = [];
    for (let start = 0; start < word.length; ) {
      let end = word.length;
      let id;
      for (; end > start; end--) {
        id = this.vocabulary.get((start ? continued : '') + word.slice(start, end).join(''));
        if (id !== undefined) break;
      }
      if (end === start) return [unknown];
      ids.push(id);
      start = end;
    }
    return ids;
  }

  shown(ids) {
    return ids.map((id) => [this.names.get(id) ?? REPLACEMENT, false]);
  }
}

const CHINESE = new RegExp(
  '[\\u4e00-\\u9fff\\u3400-\\u4dbf\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b73f}\\u{2b740}-\\u{2b81f}' +
  '\\u{2b920}-\\u{2ceaf}\\uf900-\\ufaff\\u{2f800}-\\u{2fa1f}]', 'gu');
function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, REPLACEMENT);
}

/** The tokenizer that a description asks for. */
export function newTokenizer(spec) {
  return spec.kind === 'words' ? new WordPieces(spec) : new BytePairs(spec);
}
