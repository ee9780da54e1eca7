// Runs an exported file in LiteRT.js: one signature, or all that greedy decoding needs.

import {loadAndCompile, Tensor} from '@litertjs/core';

const ARRAYS = {float32: Float32Array, int32: Int32Array};

/** A tensor of "float32" or "int32" values, in row-major order. */
export function tensor(dtype, shape, values) {
  return new Tensor(ARRAYS[dtype].from(values), shape);
}

const int32 = (shape, values) => tensor('int32', shape, values);

function deleteAll(tensors) {
  for (const one of Object.values(tensors)) one.delete();
}

/** The index of the largest value, the first of equal ones. */
function argmax(values) {
  return values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
}

/** A `.tflite` file that `tfx-transformer export --to litert` wrote. */
export class ExportedModel {
  constructor(compiled) {
    this.compiled = compiled;
  }

  /** options: of LiteRT.js's `loadAndCompile`, such as {accelerator: 'webgpu'}. */
  static async load(url, options) {
    return new ExportedModel(await loadAndCompile(url, options));
  }

  delete() {
    this.compiled.delete();
  }

  /** Runs a signature; takes and returns tensors by name. Inputs it does not have are ignored. */
  async run(signature, inputs) {
    return this.compiled.run(signature, inputs);
  }

  /** The numbers, ascending, of the signatures called <beginning><number>. */
  numbered(beginning) {
    return Object.keys(this.compiled.signatures)
      .filter((name) => new RegExp(`^${beginning}[0-9]+$`).test(name))
      .map((name) => Number(name.slice(beginning.length)))
      .sort((a, b) => a - b);
  }

  inputsOf(signature) {
    return this.compiled.signatures[signature].getInputDetails();
  }

  /**
   * The token ids that the model writes after a prompt (decoder-only) or for a source
   * (encoder-decoder), each the most probable one, up to `steps` or the end.
   *
   * config: of the bundle's config.json, `padding_id`, `start_id` and `end_id`.
   */
  async generate(prompt, steps, config) {
    const state = {};
    for (const {name, shape} of this.inputsOf('decode')) {
      if (name.includes('cache')) {
        const zeros = new Float32Array(shape.reduce((a, b) => a * b, 1));
        state[name] = new Tensor(zeros, [...shape]);
      }
    }
    const translates = this.inputsOf('decode').some(({name}) => name === 'source_length');
    let id = translates ? config.start_id : prompt.at(-1);
    let position = translates ? 0 : prompt.length - 1;
    await (translates
      ? this.#encode(prompt, config.padding_id, state)
      : this.#prefill(prompt.slice(0, -1), state));
    const answer = [];
    while (answer.length < steps && id !== config.end_id) {
      await this.#advance('decode', int32([1, 1], [id]), int32([1], [position]), state);
      position += 1;
      id = argmax(await state.logits.data());
      answer.push(id);
    }
    deleteAll(state);
    return answer;
  }

  /** Encodes a source and projects it for cross-attention. */
  async #encode(source, paddingId, state) {
    const length = this.numbered('encode_').find((n) => n >= source.length);
    const padded = [...source, ...Array(length - source.length).fill(paddingId)];
    const inputs = {encoder_token_ids: int32([1, length], padded)};
    const memory = await this.run(`encode_${length}`, inputs);
    this.#replace(state, await this.run('prefill', memory));
    this.#replace(state, {source_length: int32([1], [source.length])});
    deleteAll({...inputs, ...memory});
  }

  /** Writes tokens into the caches, many at a time; what is padded is written over later. */
  async #prefill(ids, state) {
    const context = state.kv_cache_k_0.type.layout.dimensions[2];
    for (let position = 0; position < ids.length; ) {
      const left = ids.length - position;
      const fitting = this.numbered('prefill_').filter((n) => position + n <= context);
      const length = fitting.find((n) => n >= left) ?? fitting.at(-1);
      const piece = Array.from({length}, (_, index) => ids[position + index] ?? 0);
      const positions = Array.from({length}, (_, index) => position + index);
      const name = `prefill_${length}`;
      await this.#advance(name, int32([1, length], piece), int32([length], positions), state);
      position += length;
    }
  }

  async #advance(signature, tokens, inputPos, state) {
    const outputs = await this.run(signature, {...state, tokens, input_pos: inputPos});
    deleteAll({tokens, inputPos});
    this.#replace(state, outputs);
  }

  #replace(state, tensors) {
    for (const [name, value] of Object.entries(tensors)) {
      state[name]?.delete();
      state[name] = value;
    }
  }
}
