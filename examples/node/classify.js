// Labels texts with a bundle of text_classification, in Node.js: see README.md.
//
//     node classify.js ../../saved_models/topics "It rained all night."

import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';

import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';

/** Byte-level BPE as in tokenizer.json of a bundle that was trained here. */
class Tokenizer {
  constructor({model, normalizer, pre_tokenizer: {pretokenizers: [{pattern}]}}) {
    this.ids = new Map(Object.entries(model.vocab));
    this.lowers = normalizer?.type === 'Lowercase';
    const source = pattern.Regex.replace(/\\p\{(Han|Hiragana|Katakana)\}/g, '\\p{Script=$1}');
    this.pieces = new RegExp(source, 'gu');
    // The vocabulary shows each byte as a character that can be printed, as GPT-2's does.
    const printable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    let next = 256;
    this.shown = Array.from({length: 256}, (_, byte) =>
      String.fromCharCode(printable(byte) ? byte : next++),
    );
  }

  encode(text) {
    // Each character by itself, so that a Greek sigma does not depend on its place.
    if (this.lowers) text = Array.from(text, (one) => one.toLowerCase()).join('');
    return Array.from(text.matchAll(this.pieces)).flatMap(([piece]) => this.#merge(piece));
  }

  /** The ids of a piece: the two neighbours whose token has the lowest id are merged first. */
  #merge(piece) {
    const parts = Array.from(new TextEncoder().encode(piece), (byte) => this.shown[byte]);
    for (;;) {
      const ids = parts.slice(1).map((part, n) => this.ids.get(parts[n] + part) ?? Infinity);
      const best = ids.indexOf(Math.min(...ids));
      if (best < 0 || ids[best] === Infinity) return parts.map((part) => this.ids.get(part));
      parts.splice(best, 2, parts[best] + parts[best + 1]);
    }
  }
}

/** Starts LiteRT.js. It is made for browsers, so it gets here the script that it would load there. */
async function startLiteRt() {
  const require = createRequire(import.meta.url);
  const build = join(require.resolve('@litertjs/core'), '../../wasm/litert_wasm_compat_internal');
  const script = `${readFileSync(`${build}.js`)}\nreturn ModuleFactory;`;
  globalThis.self = globalThis;
  globalThis.importScripts = () => {};
  globalThis.ModuleFactory = new Function('require', '__dirname', script)(require, '.');
  globalThis.Module = {wasmBinary: readFileSync(`${build}.wasm`)};
  await loadLiteRt('wasm/litert.js');
}

/** {label: probability} of logits: sigmoid if several labels may be right at once, else softmax. */
function probabilities(logits, {labels, architecture}) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b);
  const found = architecture.multi_label
    ? Array.from(logits, (x) => 1 / (1 + Math.exp(-x)))
    : powers.map((power) => power / sum);
  return Object.fromEntries(labels.map((label, n) => [label, found[n]]));
}

const [folder, ...texts] = process.argv.slice(2);
const read = (name) => readFileSync(join(folder, name));
const config = JSON.parse(read('config.json'));
const tokenizer = new Tokenizer(JSON.parse(read('tokenizer.json')));
const {start_id, end_id, padding_id, max_sequence_length} = config.architecture;

await startLiteRt();
const model = await loadAndCompile(new Uint8Array(read('model.tflite')), {accelerator: 'wasm'});
const lengths = Object.keys(model.signatures)
  .map((name) => Number(/^run_1x(\d+)$/.exec(name)?.[1]))
  .filter((length) => length)
  .sort((a, b) => a - b);

for (const text of texts) {
  const ids = [start_id, ...tokenizer.encode(text).slice(0, max_sequence_length - 2), end_id];
  const length = lengths.find((one) => one >= ids.length);
  const row = Int32Array.from({length}, (_, n) => ids[n] ?? padding_id);
  const input = new Tensor(row, [1, length]);
  const {output} = await model.run(`run_1x${length}`, {token_ids: input});
  const answer = probabilities(await output.data(), config);
  console.log(JSON.stringify({text, probabilities: answer}));
  input.delete();
  output.delete();
}
