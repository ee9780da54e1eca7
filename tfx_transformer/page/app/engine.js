// An exported TFLite file in LiteRT.js: its signatures, and the engines of the tasks.

const ARRAYS = {float32: Float32Array, int32: Int32Array};

/** A `.tflite` file that `tfx-transformer export --to litert` wrote. */
export class Model {
  /** litert: the module @litertjs/core; compiled: of its `loadAndCompile`. */
  constructor(litert, compiled) {
    this.litert = litert;
    this.compiled = compiled;
  }

  has(signature) {
    return signature in this.compiled.signatures;
  }

  /** The numbers, ascending, of the signatures called <beginning><number>. */
  numbered(beginning) {
    return Object.keys(this.compiled.signatures)
      .filter((name) => new RegExp(`^${beginning}[0-9]+$`).test(name))
      .map((name) => Number(name.slice(beginning.length)))
      .sort((a, b) => a - b);
  }

  /** [{name, dtype, shape}] of a signature. */
  inputsOf(signature) {
    return this.compiled.signatures[signature].getInputDetails();
  }

  /** A tensor of "float32" or "int32" values, in row-major order. */
  tensor(dtype, shape, values) {
    return new this.litert.Tensor(ARRAYS[dtype].from(values), shape);
  }

  int32(shape, values) {
    return this.tensor('int32', shape, values);
  }

  /** Runs a signature; takes and returns tensors by name. */
  run(signature, inputs) {
    return this.compiled.run(signature, inputs);
  }

  /** The float32 values of the one output of a signature with one input. */
  async values(signature, name, input) {
    const [output] = Object.values(await this.run(signature, {[name]: input}));
    const values = await output.data();
    deleteAll([input, output]);
    return values;
  }
}

function deleteAll(tensors) {
  for (const tensor of tensors) tensor.delete();
}

/** Encoder-only models: signatures `run_1x<length>` of texts, `run_1` and `features_1` of images. */
export class Encoder {
  /** paddingId: of the bundle's config.json. */
  constructor(model, paddingId) {
    this.model = model;
    this.paddingId = paddingId;
    this.lengths = model.numbered('run_1x');
  }

  /** Logits or a vector, of token ids. */
  async runIds(ids) {
    const length = this.lengths.find((n) => n >= ids.length);
    const padded = [...ids, ...Array(length - ids.length).fill(this.paddingId)];
    const input = this.model.int32([1, length], padded);
    return this.model.values(`run_1x${length}`, 'token_ids', input);
  }

  /** The output of a signature for an image, float32 (size * size * 3), colours from 0 to 255. */
  async runImage(signature, pixels, size) {
    const input = this.model.tensor('float32', [1, size, size, 3], pixels);
    return this.model.values(signature, 'images', input);
  }
}

/** Tensors by name that belong to one text; a new one takes the place of the old. */
class State {
  constructor() {
    this.tensors = {};
  }

  replace(tensors) {
    for (const [name, value] of Object.entries(tensors)) {
      this.tensors[name]?.delete();
      this.tensors[name] = value;
    }
  }

  delete() {
    deleteAll(Object.values(this.tensors));
    this.tensors = {};
  }
}

/** The caches of `decode`, of a model's whole context, with nothing in them. */
function newState(model) {
  const state = new State();
  for (const {name, shape} of model.inputsOf('decode')) {
    if (name.startsWith('kv_cache_')) {
      const zeros = new Float32Array(shape.reduce((a, b) => a * b, 1));
      state.replace({[name]: model.tensor('float32', [...shape], zeros)});
    }
  }
  return state;
}

/** Writes tokens into the caches of a state; returns the logits if the signature has any. */
async function advance(model, signature, ids, state) {
  const {ids: tokens, position} = ids;
  const own = {
    tokens: model.int32([1, tokens.length], tokens),
    input_pos: model.int32([tokens.length], tokens.map((_, index) => position + index)),
  };
  const names = model.inputsOf(signature).map(({name}) => name);
  const inputs = Object.fromEntries(names.map((name) => [name, own[name] ?? state.tensors[name]]));
  const {logits, ...caches} = await model.run(signature, inputs);
  deleteAll(Object.values(own));
  state.replace(caches);
  if (!logits) return null;
  const values = await logits.data();
  logits.delete();
  return values;
}

/** A decoder-only model's cache: one text. */
export class CausalSession {
  constructor(model) {
    this.model = model;
    this.lengths = model.numbered('prefill_');
    this.context = model.inputsOf('decode').find(({name}) => name === 'kv_cache_k_0').shape[2];
    this.state = newState(model);
  }

  /**
   * Writes tokens into the cache, many at a time. The shortest prefill that holds them all is
   * padded; what it writes behind them is written over before anything may look there.
   */
  async extend(ids, position) {
    while (ids.length) {
      const fitting = this.lengths.filter((n) => position + n <= this.context);
      const length = fitting.find((n) => n >= ids.length) ?? fitting.at(-1);
      const tokens = Array.from({length}, (_, index) => ids[index] ?? 0);
      await advance(this.model, `prefill_${length}`, {ids: tokens, position}, this.state);
      const count = Math.min(length, ids.length);
      ids = ids.slice(count);
      position += count;
    }
  }

  /** The logits after a token at `position`. */
  step(id, position) {
    return advance(this.model, 'decode', {ids: [id], position}, this.state);
  }

  delete() {
    this.state.delete();
  }
}

/** An encoder-decoder's cache: one source. */
export class TranslationSession {
  constructor(model, paddingId) {
    this.model = model;
    this.paddingId = paddingId;
    this.lengths = model.numbered('encode_');
    this.state = null;
  }

  /** Encodes a source and projects it for cross-attention. */
  async start(source) {
    this.delete();
    this.state = newState(this.model);
    const length = this.lengths.find((n) => n >= source.length);
    const padded = [...source, ...Array(length - source.length).fill(this.paddingId)];
    const token_ids = this.model.int32([1, length], padded);
    const memory = await this.model.run(`encode_${length}`, {encoder_token_ids: token_ids});
    this.state.replace(await this.model.run('prefill', memory));
    this.state.replace({source_length: this.model.int32([1], [source.length])});
    deleteAll([token_ids, ...Object.values(memory)]);
  }

  step(id, position) {
    return advance(this.model, 'decode', {ids: [id], position}, this.state);
  }

  delete() {
    this.state?.delete();
    this.state = null;
  }
}
