// Texts to token ids and back, with the ids of the package's tokenizers in Python.

import {arrayOf, bytesOf, REPLACEMENT, textOf, wellFormed} from './bytes.js';
import {Pieces} from './pieces.js';

const SLICE = 20_000; // characters that Python encodes at a time
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
 * space before it; lower, the characters that are read in lower case.
 */
export class BytePairs {
  constructor(spec) {
    this.spec = spec;
    this.ranks = new Map(spec.tokens.map((token, rank) => [token, rank]));
    this.bytes = new Map(spec.tokens.map((token, rank) => [spec.ids[rank], token]));
    for (const [id, token] of spec.others) this.bytes.set(id, token);
    this.pattern = new RegExp(spec.pattern, 'gu');
    this.lower = new Map(Array.from(spec.lower, (one) => [one, one.toLowerCase()]));
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

  /** The ids of a text that follows a special token: those of any text. */
  encodeAfter(text) {
    return this.encode(text);
  }

  /** {ids, offsets}: [start, end] of each token in code points, without the blanks around it. */
  encodeWithOffsets(text) {
    if (this.spec.compose || this.spec.cut) throw new Error('this tokenizer has no offsets');
    text = wellFormed(text);
    const ids = this.encode(text);
    const characters = Array.from(text);
    const places = []; // of each byte, the character that it is of
    for (const [place, one] of characters.entries()) {
      const spelled = this.lower.get(one) ?? one;
      for (let count = bytesOf(spelled).length; count > 0; count--) places.push(place);
    }
    const added = this.spec.prefix && text && !text.startsWith(' ') ? 1 : 0;
    let byte = -added;
    const offsets = ids.map((id) => {
      const start = Math.max(0, byte);
      byte += this.bytesOf(id).length;
      return byte ? [places[start], places[byte - 1] + 1] : [0, 0];
    });
    return {ids, offsets: trimmed(characters, offsets)};
  }

  #encode(text, ids) {
    const {compose, prefix} = this.spec;
    if (compose) text = text.replace(new RegExp(compose, 'gu'), (run) => run.normalize('NFC'));
    if (prefix && text && !text.startsWith(' ')) text = ` ${text}`;
    for (const slice of slices(text)) {
      const lowered = (one) => this.lower.get(one) ?? one;
      const read = this.lower.size ? Array.from(slice, lowered).join('') : slice;
      for (const [piece] of read.matchAll(this.pattern)) {
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

  /** [text, whether it is part of a character] of each id. */
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
    for (const [word] of this.#words(this.#normalize(wellFormed(text)))) {
      for (const [id] of this.#pieces(Array.from(word))) ids.push(id);
    }
    return ids;
  }

  /** {ids, offsets}, as of `BytePairs`. */
  encodeWithOffsets(text) {
    const characters = Array.from(wellFormed(text));
    const places = []; // of each character that is read, the one that it was made of
    let read = '';
    for (const [place, one] of characters.entries()) {
      const made = this.#normalize(one);
      read += made;
      for (let count = Array.from(made).length; count > 0; count--) places.push(place);
    }
    const ids = [];
    const offsets = [];
    for (const found of this.#words(read)) {
      const first = Array.from(read.slice(0, found.index)).length;
      for (const [id, start, end] of this.#pieces(Array.from(found[0]))) {
        ids.push(id);
        offsets.push([places[first + start], places[first + end - 1] + 1]);
      }
    }
    return {ids, offsets: trimmed(characters, offsets)};
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
    return [...text.matchAll(this.word)];
  }

  /** [id, start, end] of each piece of a word. */
  #pieces(word) {
    const {unknown, continued, longest} = this.spec;
    const whole = [[unknown, 0, word.length]];
    if (word.length > longest) return whole;
    const ids = [];
    for (let start = 0; start < word.length; ) {
      let end = word.length;
      let id;
      for (; end > start; end--) {
        id = this.vocabulary.get((start ? continued : '') + word.slice(start, end).join(''));
        if (id !== undefined) break;
      }
      if (end === start) return whole;
      ids.push([id, start, end]);
      start = end;
    }
    return ids;
  }

  shown(ids) {
    return ids.map((id) => [this.names.get(id) ?? REPLACEMENT, false]);
  }
}

// The blanks of Python's str.isspace.
const BLANK = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;
const CHINESE = new RegExp(
  '[\\u4e00-\\u9fff\\u3400-\\u4dbf\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b73f}\\u{2b740}-\\u{2b81f}' +
  '\\u{2b920}-\\u{2ceaf}\\uf900-\\ufaff\\u{2f800}-\\u{2fa1f}]', 'gu');
/** Offsets without the blanks at both ends of each token. */
function trimmed(characters, offsets) {
  return offsets.map(([start, end]) => {
    while (start < end && BLANK.test(characters[start])) start += 1;
    while (start < end && BLANK.test(characters[end - 1])) end -= 1;
    return [start, end];
  });
}

const KINDS = {bytes: BytePairs, words: WordPieces, pieces: Pieces};

/** The tokenizer that a description asks for. */
export function newTokenizer(spec) {
  return new KINDS[spec.kind](spec);
}
