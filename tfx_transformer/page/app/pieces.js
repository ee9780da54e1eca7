// SentencePiece's tokenizers, as the package `tokenizers` runs them: Unigram, and BPE with bytes for
// unknown characters.

import {arrayOf, bytesOf, newDecoder, REPLACEMENT, wellFormed} from './bytes.js';

const SPACE = '▁'; // stands for a space in pieces
const BYTE = /^<0x([0-9A-F]{2})>$/; // the name of a byte
const UNKNOWN_PENALTY = 10; // an unknown character scores so much less than the worst piece

/**
 * A precompiled map of characters: a double-array trie (Aoe 1989) of UTF-8 texts, and the texts
 * that replace them.
 */
class CharacterMap {
  /** base64: the size of the trie, 4 bytes; the trie; texts that end with a 0. */
  constructor(base64) {
    const data = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
    const size = new DataView(data.buffer).getUint32(0, true);
    this.units = new Uint32Array(data.buffer.slice(4, 4 + size));
    this.texts = data.subarray(4 + size);
    this.known = new Map();
    this.characters = new Intl.Segmenter('en', {granularity: 'grapheme'});
  }

  /** Replaces each character as people see it; if the map lacks it, each code point of it. */
  replace(text) {
    let result = '';
    for (const {segment} of this.characters.segment(text)) {
      const found = bytesOf(segment).length < 6 ? this.#find(segment) : null;
      result += found ?? Array.from(segment, (one) => this.#find(one) ?? one).join('');
    }
    return result;
  }

  /** The replacement of the shortest entry that a text begins with, or null. */
  #find(text) {
    let found = this.known.get(text);
    if (found === undefined) {
      found = this.#search(arrayOf(bytesOf(text)));
      this.known.set(text, found);
    }
    return found;
  }

  #search(bytes) {
    const next = (unit) => (unit >>> 10) << ((unit & 0x200) >>> 6);
    let place = next(this.units[0]);
    for (const byte of bytes) {
      if (byte === 0) return null;
      place ^= byte;
      const unit = this.units[place];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return null;
      place ^= next(unit);
      if (unit & 0x100) {
        const start = this.units[place] & 0x7fffffff;
        return newDecoder().decode(this.texts.subarray(start, this.texts.indexOf(0, start)));
      }
    }
    return null;
  }
}

// Steps before the model, by their type in tokenizer.json.
const NORMALIZERS = {
  Precompiled: ({precompiled_charsmap: map}) => {
    const characters = new CharacterMap(map);
    return (text) => characters.replace(text);
  },
  Replace: ({pattern, content}) => {
    const found = 'String' in pattern ? pattern.String : new RegExp(pattern.Regex, 'gu');
    return (text) => text.replaceAll(found, () => content);
  },
  Prepend: ({prepend}) => (text) => (text ? prepend + text : text),
  Lowercase: () => (text) => Array.from(text, (one) => one.toLowerCase()).join(''),
  Strip: ({strip_left: left, strip_right: right}) => (text) => {
    if (left) text = text.replace(/^\p{White_Space}+/u, '');
    return right ? text.replace(/\p{White_Space}+$/u, '') : text;
  },
  NFC: () => (text) => text.normalize('NFC'),
  NFD: () => (text) => text.normalize('NFD'),
  NFKC: () => (text) => text.normalize('NFKC'),
  NFKD: () => (text) => text.normalize('NFKD'),
};

// Steps that cut a text into the parts that the model reads one by one, by their type. begins: true
// if nothing is before the text.
const SPLITTERS = {
  WhitespaceSplit: () => (text) => text.match(/[^\p{White_Space}]+/gu) ?? [],
  Metaspace: ({replacement, prepend_scheme: scheme, split}) => (text, begins) => {
    text = text.replaceAll(' ', replacement);
    const prepends = scheme === 'always' || (scheme === 'first' && begins);
    if (prepends && !text.startsWith(replacement)) text = replacement + text;
    if (!split) return [text];
    return text.match(new RegExp(`${replacement}?[^${replacement}]+|${replacement}`, 'gu')) ?? [];
  },
};

/** The most probable pieces of a text (Kudo 2018). */
class Unigram {
  constructor({pieces, scores, lowest, unknown, bytes}) {
    this.ids = new Map(pieces.map(([name, id]) => [name, id]));
    this.scores = new Map(pieces.map(([name], index) => [name, scores[index]]));
    // A vocabulary has more pieces than a function takes arguments.
    this.longest = pieces.reduce((most, [name]) => Math.max(most, Array.from(name).length), 0);
    this.worst = lowest - UNKNOWN_PENALTY;
    this.unknown = unknown;
    this.bytes = bytes;
  }

  encode(text) {
    const characters = Array.from(text);
    // For each place: the best score of the text before it, the start of its last piece, and
    // whether that piece is unknown.
    const best = [{score: 0, start: null, unknown: false}];
    const reach = (end, start, score, unknown) => {
      if (!best[end] || score > best[end].score) best[end] = {score, start, unknown};
    };
    for (let start = 0; start < characters.length; start++) {
      let piece = '';
      for (let end = start + 1; end <= Math.min(characters.length, start + this.longest); end++) {
        piece += characters[end - 1];
        const score = this.scores.get(piece);
        if (score !== undefined) reach(end, start, score + best[start].score, false);
        else if (end === start + 1) reach(end, start, this.worst + best[start].score, true);
      }
    }
    const pieces = [];
    let isUnknown = false; // of the piece after this one
    for (let end = characters.length; end > 0; end = best[end].start) {
      const piece = characters.slice(best[end].start, end).join('');
      if (isUnknown && best[end].unknown) pieces.push(piece + pieces.pop());
      else pieces.push(piece);
      isUnknown = best[end].unknown;
    }
    return pieces.reverse().flatMap((piece) => this.#idsOf(piece));
  }

  #idsOf(piece) {
    const id = this.ids.get(piece);
    if (id !== undefined) return [id];
    const bytes = this.bytes ? [...arrayOf(bytesOf(piece))].map((byte) => this.bytes[byte]) : [null];
    return bytes.includes(null) ? [this.unknown] : bytes;
  }
}

/** BPE over characters: two neighbours are merged in the order of the merges in training. */
class CharacterPairs {
  constructor({pieces, merges, unknown, fuse, bytes}) {
    this.ids = new Map(pieces);
    // "left right", two ids -> [rank, id of both together]
    this.merges = new Map(merges.map(([left, right, id], rank) => [`${left} ${right}`, [rank, id]]));
    this.unknown = unknown;
    this.fuse = fuse;
    this.bytes = bytes;
  }

  encode(text) {
    const ids = [];
    let unknown = false; // whether the last id is of an unknown character
    for (const character of text) {
      const id = this.ids.get(character);
      const bytes = this.bytes && [...arrayOf(bytesOf(character))].map((byte) => this.bytes[byte]);
      if (id !== undefined) ids.push(id);
      else if (bytes && !bytes.includes(null)) ids.push(...bytes);
      else if (this.unknown !== null && !(unknown && this.fuse)) ids.push(this.unknown);
      unknown = id === undefined && !(bytes && !bytes.includes(null));
    }
    return this.#merge(ids);
  }

  #merge(ids) {
    const previous = ids.map((_, index) => index - 1);
    const next = ids.map((_, index) => index + 1);
    const queue = new Queue();
    const offer = (place) => {
      const found = this.merges.get(`${ids[place]} ${ids[next[place]]}`);
      if (found) queue.push([found[0], place, found[1], ids[place], ids[next[place]]]);
    };
    for (let place = 0; place < ids.length - 1; place++) offer(place);
    for (let top = queue.pop(); top; top = queue.pop()) {
      const [, place, id, left, right] = top;
      const after = next[place];
      if (ids[place] !== left || ids[after] !== right) continue; // one of them has been merged since
      ids[place] = id;
      ids[after] = null;
      next[place] = next[after];
      if (next[after] < ids.length) previous[next[after]] = place;
      if (previous[place] >= 0) offer(previous[place]);
      if (next[place] < ids.length) offer(place);
    }
    return ids.filter((id) => id !== null);
  }
}

/** A heap of lists of numbers: the smallest comes first, by the first two numbers. */
class Queue {
  items = [];

  push(item) {
    let place = this.items.push(item) - 1;
    while (place) {
      const above = (place - 1) >> 1;
      if (!this.#isLess(place, above)) break;
      place = this.#swap(place, above);
    }
  }

  pop() {
    const [top] = this.items;
    const last = this.items.pop();
    if (!this.items.length) return top;
    this.items[0] = last;
    for (let place = 0; ;) {
      const left = 2 * place + 1;
      const least = left + 1 < this.items.length && this.#isLess(left + 1, left) ? left + 1 : left;
      if (least >= this.items.length || !this.#isLess(least, place)) return top;
      place = this.#swap(place, least);
    }
  }

  #isLess(one, other) {
    const [a, b] = [this.items[one], this.items[other]];
    return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
  }

  #swap(one, other) {
    [this.items[one], this.items[other]] = [this.items[other], this.items[one]];
    return other;
  }
}

/**
 * SentencePiece's tokenizers.
 *
 * spec: model, "unigram" or "pairs", with pieces, [text, id], without those of special tokens;
 * names, {id: text} of the same; normalizers and splitters, the steps before the model; added,
 * {text: id} of texts that are cut out before all else, and cut, a pattern of these; bytes, ids of
 * the 256 bytes or null where there are none; namesBytes: true if names such as <0x41> stand for
 * bytes; leadingSpace: true if the space of the first piece is not part of the text.
 */
export class Pieces {
  constructor(spec) {
    this.spec = spec;
    this.leadingSpace = spec.leadingSpace;
    this.model = spec.model === 'unigram' ? new Unigram(spec) : new CharacterPairs(spec);
    this.normalizers = spec.normalizers.map((step) => NORMALIZERS[step.type](step));
    this.splitters = spec.splitters.map((step) => SPLITTERS[step.type](step));
    this.names = new Map(spec.pieces.map(([name, id]) => [id, name]));
    for (const [name, id] of Object.entries(spec.added)) this.names.set(id, name);
    this.known = new Map(); // ids of pieces that were seen before
  }

  encode(text) {
    return this.#encode(text, true);
  }

  /** The ids of a text that follows a special token. */
  encodeAfter(text) {
    return this.#encode(text, false);
  }

  #encode(text, begins) {
    text = wellFormed(text);
    const {cut, added} = this.spec;
    const ids = [];
    let end = 0;
    for (const found of cut ? text.matchAll(new RegExp(cut, 'gu')) : []) {
      this.#read(text.slice(end, found.index), begins && end === 0, ids);
      ids.push(added[found[0]]);
      end = found.index + found[0].length;
    }
    this.#read(text.slice(end), begins && end === 0, ids);
    return ids;
  }

  #read(text, begins, ids) {
    if (!text) return;
    for (const normalize of this.normalizers) text = normalize(text);
    let parts = text ? [text] : [];
    for (const split of this.splitters) parts = parts.flatMap((part) => split(part, begins));
    for (const part of parts) {
      let found = this.known.get(part);
      if (!found) {
        found = this.model.encode(part);
        if (this.known.size > 50_000) this.known.clear();
        if (part.length < 50) this.known.set(part, found);
      }
      for (const id of found) ids.push(id);
    }
  }

  /** The byte that an id stands for, or null if it stands for a text. */
  #byteOf(id) {
    const found = this.spec.namesBytes && BYTE.exec(this.names.get(id) ?? '');
    return found ? parseInt(found[1], 16) : null;
  }

  #textOf(id) {
    return (this.names.get(id) ?? '').replaceAll(SPACE, ' ');
  }

  /** The bytes of an id, one character a byte; of a special one none. */
  bytesOf(id) {
    const byte = this.#byteOf(id);
    return byte === null ? bytesOf(this.#textOf(id)) : String.fromCharCode(byte);
  }

  /** The text of ids; special ids are left out, and each byte of no character is U+FFFD. */
  decode(ids) {
    let text = '';
    let bytes = []; // of the ids before this one that are bytes
    const flush = () => {
      const read = newDecoder().decode(Uint8Array.from(bytes));
      const isText = bytesOf(read) === String.fromCharCode(...bytes);
      text += isText ? read : REPLACEMENT.repeat(bytes.length);
      bytes = [];
    };
    for (const id of ids.filter((one) => this.names.has(one))) {
      const byte = this.#byteOf(id);
      if (byte === null) {
        flush();
        text += this.#textOf(id);
      } else bytes.push(byte);
    }
    flush();
    return this.leadingSpace ? text.replace(/^ /, '') : text;
  }

  /** [text, whether it is part of a character] of each id. */
  shown(ids) {
    return ids.map((id) => {
      const byte = this.#byteOf(id);
      if (byte !== null) return [byte.toString(16).padStart(2, '0'), true];
      return [this.names.has(id) ? this.#textOf(id) : REPLACEMENT, false];
    });
  }
}
