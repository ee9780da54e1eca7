// The other thread: loads LiteRT.js and the model, and answers what the page asks.

import {Head, newAnswerer, Refusal} from './answers.js';
import {Model} from './engine.js';

let answerer = null;
const head = new Head();
const stopped = new Set(); // numbers of requests that are no longer needed

/** {bundle, model, wasm: bytes, accelerator}. */
async function load({bundle, model, wasm, accelerator}) {
  // LiteRT.js takes the module that these settings describe; its script is above.
  self.Module = {wasmBinary: wasm};
  await LiteRT.loadLiteRt('wasm/litert.js');
  const options = {accelerator, ...(accelerator === 'webgpu' && {gpuOptions: {precision: 'fp32'}})};
  const compiled = await LiteRT.loadAndCompile(new Uint8Array(model), options);
  const loaded = new Model(LiteRT, compiled);
  answerer = newAnswerer(loaded, bundle);
  return {accelerator: compiled.options.accelerator, features: loaded.has('features_1')};
}

/** The tokens of a text: [[id, text, whether it is part of a character]]. */
function tokens({text}) {
  const ids = answerer.tokenizer.encode(text);
  return answerer.tokenizer.shown(ids).map(([shown, part], index) => [ids[index], shown, part]);
}

const CALLS = {
  load,
  tokens,
  answer: (request, call) => answerer.answer(request, call),
  explain: (request, call) => answerer.explain(request, call),
  many: (request, call) => answerer.many(request, call),
  features: (request) => answerer.features(request),
  teach: (request) => head.teach(request),
  recognize: (request) => head.recognize(request),
  reset: () => answerer.reset(),
};

// One request after the other: they share the model's buffers.
let last = Promise.resolve();

self.onmessage = ({data: {number, name, request, options}}) => {
  if (name === 'stop') {
    stopped.add(number);
    return;
  }
  last = last.then(() => perform(number, name, request, options));
};

async function perform(number, name, request, options) {
  const call = {
    options,
    show: (progress) => self.postMessage({number, progress}),
    stopped: () => stopped.has(number),
  };
  try {
    if (stopped.has(number)) throw new Refusal('stopped');
    const started = performance.now();
    const answer = await CALLS[name](request, call);
    self.postMessage({number, answer, seconds: (performance.now() - started) / 1000});
  } catch (error) {
    const refusal = error instanceof Refusal;
    self.postMessage({
      number,
      error: refusal ? error.message : 'fault',
      values: refusal ? error.values : {detail: String(error?.message ?? error)},
    });
  }
  stopped.delete(number);
}
