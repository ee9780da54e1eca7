// The answers of bundles, by task: the counterpart of the package's `runtime` in Python.

import {arrayOf, newDecoder} from './bytes.js';
import {CausalSession, Encoder, TranslationSession} from './engine.js';
import {fitHead, headLogits} from './heads.js';
import {resizeImage} from './images.js';
import {argmax, nextToken, softmax, Uniforms} from './sampling.js';
import {Tags, windows} from './tags.js';
import {newTokenizer} from './tokenizers.js';

/** An error to be shown by its name in texts.json, with the values that it mentions. */
export class Refusal extends Error {
  constructor(name, values = {}) {
    super(name);
    this.values = values;
  }
}

/** Lets the worker receive messages, such as `stop`, between two steps. */
function yieldToMessages() {
  return new Promise((resolve) => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/**
 * Turns ids into text as they come; the bytes of half a character are held back.
 *
 * stop: texts before which the text ends.
 */
class Writer {
  constructor(tokenizer, stop) {
    this.tokenizer = tokenizer;
    this.stop = stop;
    this.decoder = newDecoder();
    this.ids = [];
    this.text = '';
    this.begun = false; // true after the first id that has bytes
    this.space = ''; // the space before the text, if the tokenizer leaves it out
    this.stopped = false;
  }

  /** Takes an id; returns true if the text ends here. */
  add(id) {
    let bytes = this.tokenizer.bytesOf(id);
    const first = !this.begun && bytes !== '';
    this.begun ||= first;
    if (first && this.tokenizer.leadingSpace && bytes.startsWith(' ')) {
      this.space = ' '; // one space, even if the next id begins with another
      bytes = bytes.slice(1);
    }
    this.ids.push(id);
    this.text += this.decoder.decode(arrayOf(bytes), {stream: true});
    const places = this.stop.map((end) => this.text.indexOf(end)).filter((place) => place >= 0);
    this.stopped = places.length > 0;
    if (this.stopped) this.text = this.text.slice(0, Math.min(...places));
    return this.stopped;
  }

  /** The text so far, up to the place where a stop text may have begun. */
  certain() {
    let kept = this.text.length;
    for (const end of this.stopped ? [] : this.stop) {
      for (let size = 1; size < end.length; size++) {
        if (this.text.endsWith(end.slice(0, size))) kept = Math.min(kept, this.text.length - size);
      }
    }
    return this.text.slice(0, kept);
  }

  finish() {
    if (this.stopped) return this.text;
    return this.stop.length ? this.text + this.decoder.decode() : this.tokenizer.decode(this.ids);
  }
}

/**
 * Writes token by token.
 *
 * step: (id, index) -> logits; first: the id of step 0; limit: most tokens; call: {options, show,
 * stopped}, of a request.
 * Returns: {ids; text, which ends before a stop text; space: see `Writer`}.
 */
async function write(step, first, limit, endId, tokenizer, {options = {}, show, stopped}) {
  const writer = new Writer(tokenizer, options.stop ?? []);
  const uniforms = new Uniforms(options.seed ?? 0);
  const most = Math.min(options.maxNewTokens || limit, limit);
  const ids = [];
  let id = first;
  while (ids.length < most) {
    const logits = await step(id, ids.length);
    id = nextToken(logits, ids, uniforms, options);
    ids.push(id);
    if (id === endId || writer.add(id)) break;
    show?.({text: writer.certain(), space: writer.space, tokens: ids.length});
    await yieldToMessages();
    if (stopped?.()) break;
  }
  return {ids, text: writer.finish(), space: writer.space};
}

/** Translates, or whatever an encoder-decoder was trained for. */
class Translator {
  constructor(model, bundle) {
    Object.assign(this, bundle, {tokenizer: newTokenizer(bundle.tokenizer)});
    this.session = new TranslationSession(model, bundle.ids.padding);
  }

  async answer({text}, call) {
    const most = this.maxLength - 1;
    const source = this.tokenizer.encode(text);
    const ids = [...source.slice(0, most), this.ids.end];
    await this.session.start(ids);
    const step = (id, position) => this.session.step(id, position);
    const written = await write(
      step, this.ids.start, this.maxLength, this.ids.end, this.tokenizer, call);
    return {
      text: written.text,
      tokens: written.ids.length,
      cut: source.length > most ? most : 0,
    };
  }
}

/** Continues texts. */
class Continuer {
  constructor(model, bundle) {
    Object.assign(this, bundle, {tokenizer: newTokenizer(bundle.tokenizer)});
    this.session = new CausalSession(model);
  }

  async answer({text}, call) {
    const found = this.tokenizer.encode(text);
    const most = this.session.context - 1;
    const room = most - this.ids.prefix.length;
    const kept = found.slice(Math.max(0, found.length - room));
    let ids = [...this.ids.prefix, ...kept];
    if (!ids.length) ids = [this.ids.end];
    await this.session.extend(ids.slice(0, -1), 0);
    const start = ids.length - 1;
    const step = (id, index) => this.session.step(id, start + index);
    const limit = this.session.context - ids.length;
    const written = await write(step, ids.at(-1), limit, this.ids.end, this.tokenizer, call);
    return {
      text: written.text,
      space: written.space, // between the text and its continuation
      tokens: written.ids.length,
      cut: found.length > room ? room : 0,
    };
  }
}

// The blanks of Python's str.strip.
const BLANK = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+';
const BLANK_ENDS = new RegExp(`^${BLANK}|${BLANK}$`, 'g');

function strip(text) {
  return text.replace(BLANK_ENDS, '');
}

/**
 * A conversation that keeps its cache from turn to turn: each adds only what is new.
 *
 * bundle.chat: the parts that the template writes, lists of texts and ids of special tokens. begin:
 * before the first message; roles: {role: [before, after]} of each message; ask: after the last one;
 * trim: whether blanks at the ends of a message are left out.
 */
class Assistant {
  constructor(model, bundle) {
    Object.assign(this, bundle, {tokenizer: newTokenizer(bundle.tokenizer)});
    this.session = new CausalSession(model);
    this.reset();
  }

  reset() {
    this.messages = [];
    this.cached = []; // tokens in the cache
    this.pending = []; // written last, not in the cache yet
  }

  /** The parts of messages, with the template's around them; begins: nothing is before them. */
  #frame(messages, begins) {
    const parts = [];
    if (begins) parts.push(...this.chat.begin[messages[0].role === 'system' ? 'withSystem' : 'withoutSystem']);
    for (const {role, content} of messages) {
      const [before, after] = this.chat.roles[role];
      parts.push(...before, this.chat.trim ? strip(content) : content, ...after);
    }
    return [...parts, ...this.chat.ask];
  }

  /** Ids of texts and special tokens; begins: nothing is before them. Texts side by side are one. */
  #encode(parts, begins) {
    const ids = [];
    let text = '';
    for (const part of [...parts, null]) {
      if (typeof part === 'string') {
        text += part;
        continue;
      }
      // One by one: a call takes at most some 100,000 arguments.
      for (const id of begins ? this.tokenizer.encode(text) : this.tokenizer.encodeAfter(text)) ids.push(id);
      [text, begins] = ['', false];
      if (part !== null) ids.push(part);
    }
    return ids;
  }

  /** [number of tokens that stay in the cache, ids that the model has to read after them]. */
  #unread(messages) {
    const [, after] = this.chat.roles.assistant;
    const end = after.indexOf(this.ids.end);
    if (this.cached.length && end >= 0) {
      const parts = [...after.slice(end + 1), ...this.#frame(messages.slice(-1), false)];
      return [this.cached.length, [...this.pending, ...this.#encode(parts, false)]];
    }
    return [0, this.#encode(this.#frame(messages, true), true)];
  }

  async answer({text, system = ''}, call) {
    if (system && !this.chat.roles.system) throw new Refusal('no system');
    if (!this.messages.length && system) this.messages = [{role: 'system', content: system}];
    let messages = [...this.messages, {role: 'user', content: text}];
    let [position, ids] = this.#unread(messages);
    let forgotten = 0;
    while (position + ids.length + Math.min(16, this.session.context >> 2) > this.session.context) {
      const first = messages[0].role === 'system' ? 1 : 0;
      if (messages.length - first < 3) {
        if (position + ids.length < this.session.context) break;
        throw new Refusal('too long', {tokens: ids.length, context: this.session.context});
      }
      messages = [...messages.slice(0, first), ...messages.slice(first + 2)];
      forgotten += 1;
      [this.cached, this.pending] = [[], []];
      [position, ids] = this.#unread(messages);
    }
    await this.session.extend(ids.slice(0, -1), position);
    const start = position + ids.length - 1;
    const step = (id, index) => this.session.step(id, start + index);
    const limit = this.session.context - start - 1;
    const written = await write(step, ids.at(-1), limit, this.ids.end, this.tokenizer, call);
    const last = written.ids.at(-1);
    this.cached = this.cached.concat(ids, written.ids.slice(0, -1));
    // An answer that was cut off is closed, as all answers are in training.
    this.pending = last === this.ids.end ? [last] : [last, this.ids.end];
    this.messages = [...messages, {role: 'assistant', content: written.text}];
    const used = this.cached.length + 1;
    return {
      text: written.text,
      tokens: written.ids.length,
      forgotten,
      used,
      context: this.session.context,
    };
  }
}

/** The ids that an encoder reads of the texts of a row, framed and cut to fit. */
export function frame(tokenizer, texts, {before, between, after, end}, longest) {
  const room = longest - before.length - after.length - between.length * (texts.length - 1);
  const parts = texts.map((text) => tokenizer.encode(text));
  const whole = parts.reduce((sum, part) => sum + part.length, 0);
  for (const part of parts) part.length = Math.min(part.length, room);
  for (;;) {
    const excess = parts.reduce((sum, part) => sum + part.length, 0) - room;
    if (excess <= 0) break;
    const longestPart = parts.reduce((a, b) => (b.length > a.length ? b : a));
    const others = parts.filter((part) => part !== longestPart).map((part) => part.length);
    const lead = longestPart.length - Math.max(0, ...others);
    longestPart.length -= Math.min(excess, Math.max(lead, 1));
  }
  let ids = [...before];
  parts.forEach((part, index) => {
    ids = ids.concat(index ? between : [], part);
  });
  ids = ids.concat(after);
  return {ids: ids.length ? ids : [end], cut: whole > room ? room : 0};
}

function probabilities(logits, severalLabels) {
  return severalLabels
    ? logits.map((value) => 0.5 * (1 + Math.tanh(0.5 * value)))
    : softmax(logits);
}

/** Probabilities of logits, and the labels that they mean. */
function classification(logits, {labels, severalLabels}) {
  const found = probabilities(logits, severalLabels);
  const ranked = [...found.keys()].sort((a, b) => found[b] - found[a]);
  const named = ranked.map((id) => ({label: labels[id], probability: found[id], id}));
  return {
    ranked: named,
    labels: severalLabels ? named.filter((one) => one.probability > 0.5) : named.slice(0, 1),
  };
}

// Scripts that are written without spaces are cut where the script changes, others at spaces.
const PIECES = new RegExp(
  '[\\u3400-\\u4dbf\\u4e00-\\u9fff\\u3005-\\u3007]+|[\\u3040-\\u309f]+|[\\u30a0-\\u30ff]+' +
  '|[^\\s\\u3005-\\u3007\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff]+', 'gu');
const MOST_PIECES = 48;

/** [start, end] of the pieces of a text, at most so many. */
function pieces(text, most) {
  const found = [...text.matchAll(PIECES)].map((one) => [one.index, one.index + one[0].length]);
  const each = Math.ceil(found.length / most) || 1;
  const groups = [];
  for (let at = 0; at < found.length; at += each) {
    groups.push([found[at][0], found[Math.min(at + each, found.length) - 1][1]]);
  }
  return groups;
}

/** Reads texts, or rows of several, to a list of numbers. */
class TextReader {
  constructor(model, bundle) {
    Object.assign(this, bundle, {tokenizer: newTokenizer(bundle.tokenizer)});
    this.encoder = new Encoder(model, bundle.ids.padding);
  }

  async read(texts) {
    const {ids, cut} = frame(this.tokenizer, texts, this.frame, this.maxLength);
    return {values: await this.encoder.runIds(ids), cut};
  }

  /**
   * How much lower a value is without each piece of a text (occlusion, Zeiler and Fergus 2014,
   * section 4.2): [{column, start, end, weight}], places in UTF-16 units as JavaScript counts.
   */
  async explain({texts, label = 0}, {stopped} = {}) {
    const measure = async (row) => this.measured((await this.read(row)).values)[label];
    const whole = await measure(texts);
    const found = [];
    for (const [column, text] of texts.entries()) {
      const most = Math.max(1, Math.floor(MOST_PIECES / texts.length));
      for (const [start, end] of pieces(text, most)) {
        const row = texts.with(column, text.slice(0, start) + text.slice(end));
        found.push({column, start, end, weight: whole - (await measure(row))});
        await yieldToMessages();
        if (stopped?.()) return [];
      }
    }
    return found;
  }
}

/** Classifies texts. */
class TextClassifier extends TextReader {
  measured(logits) {
    return probabilities(logits, this.severalLabels);
  }

  async answer({texts}) {
    const {values, cut} = await this.read(texts);
    return {...classification(values, this), cut};
  }
}

/** Gives texts numbers. */
class TextRegressor extends TextReader {
  measured(values) {
    return values;
  }

  async answer({texts}) {
    const {values, cut} = await this.read(texts);
    return {value: values[0], cut};
  }
}

/** Classifies images. */
class ImageClassifier {
  constructor(model, bundle) {
    Object.assign(this, bundle);
    this.encoder = new Encoder(model, 0);
  }

  /** picture: {pixels: uint8 (height * width * 3), width, height}. */
  async answer(picture) {
    return classification(await this.#run('run_1', picture), this);
  }

  /** The vector that the Transformer's logits are computed from. */
  features(picture) {
    return this.#run('features_1', picture);
  }

  #run(signature, {pixels, width, height}) {
    const {size, how} = this.image;
    const resized = resizeImage(pixels, width, height, size, how);
    return this.encoder.runImage(signature, resized, size);
  }
}

/** Turns texts into vectors. */
class Embedder {
  constructor(model, bundle) {
    Object.assign(this, bundle, {tokenizer: newTokenizer(bundle.tokenizer)});
    this.encoder = new Encoder(model, bundle.ids.padding);
  }

  /** float32 (width); prompt: name of one of the model's, or null: the default. */
  async answer({text, prompt = null}) {
    const start = this.prompts[prompt ?? this.defaultPrompt] ?? '';
    const {ids, cut} = frame(this.tokenizer, [start + text], this.frame, this.maxLength);
    return {vector: await this.encoder.runIds(ids), cut};
  }

  /** The vectors of many texts. */
  async many({texts, prompt = null}, {show, stopped} = {}) {
    const vectors = [];
    for (const text of texts) {
      vectors.push((await this.answer({text, prompt})).vector);
      if (vectors.length % 8 === 0) {
        show?.({done: vectors.length, of: texts.length});
        await yieldToMessages();
        if (stopped?.()) break;
      }
    }
    return vectors;
  }
}

/** The classifier that is taught in the page: a softmax head on vectors. */
export class Head {
  /**
   * vectors, labels: of the examples; names: of the classes.
   * Returns: {right: the share of the examples that get their own label; weights: see `fitHead`}.
   */
  teach({vectors, labels, names}) {
    this.names = names;
    this.weights = fitHead(vectors, labels, names.length);
    const right = vectors.filter((vector, index) =>
      argmax(headLogits(this.weights, vector)) === labels[index]);
    return {right: right.length / labels.length, weights: this.weights};
  }

  recognize({vector}) {
    const logits = Float32Array.from(headLogits(this.weights, vector));
    return classification(logits, {labels: this.names, severalLabels: false});
  }
}

/** Marks names, places, dates in texts. */
class Tagger {
  constructor(model, bundle) {
    Object.assign(this, bundle, {tokenizer: newTokenizer(bundle.tokenizer)});
    this.encoder = new Encoder(model, bundle.ids.padding);
    this.tags = new Tags(bundle.labels);
  }

  /** A text that is longer than the model reads is read in windows that overlap. */
  async answer({text}, {stopped} = {}) {
    const {ids, offsets} = this.tokenizer.encodeWithOffsets(text);
    const {before, after, end} = this.frame;
    const logits = [];
    for (const part of windows(ids.length, this.maxLength - before.length - after.length)) {
      const framed = [...before, ...ids.slice(part.start, part.end), ...after];
      const values = await this.encoder.runIds(framed.length ? framed : [end]);
      const width = this.labels.length;
      for (let token = part.keptStart; token < part.keptEnd; token++) {
        const first = (before.length + token - part.start) * width;
        logits[token] = values.slice(first, first + width);
      }
      await yieldToMessages();
      if (stopped?.()) throw new Refusal('stopped');
    }
    return {spans: this.tags.spans(Array.from(text), offsets, logits)};
  }
}

// kind of the page -> class of the answerer.
const KINDS = {
  translation: Translator,
  continuation: Continuer,
  chat: Assistant,
  tags: Tagger,
  number: TextRegressor,
  text: TextClassifier,
  image: ImageClassifier,
  vectors: Embedder,
};

/** The answerer of a bundle; bundle: the description that the page holds. */
export function newAnswerer(model, bundle) {
  return new KINDS[bundle.kind](model, bundle);
}
