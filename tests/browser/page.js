// Runs the models that the server's request names, and reports what each of them answers.

import {getWebGpuDevice, loadLiteRt} from '@litertjs/core';

import {ExportedModel, tensor} from './model.js';

/** All outputs of a signature as plain lists; inputs by name as [dtype, shape, values]. */
async function outputs(model, signature, inputs) {
  const tensors = Object.entries(inputs).map(([name, values]) => [name, tensor(...values)]);
  const results = await model.run(signature, Object.fromEntries(tensors));
  const lists = {};
  for (const [name, result] of Object.entries(results)) {
    lists[name] = [...(await result.data())];
    result.delete();
  }
  for (const [, input] of tensors) input.delete();
  return lists;
}

async function answers({file, signatures, prompts, steps, config}, options) {
  const started = performance.now();
  const model = await ExportedModel.load(file, options);
  const compiled = performance.now();
  const found = {
    // In browsers without JSPI, LiteRT.js compiles for WASM what WebGPU cannot run as a whole.
    accelerator: model.compiled.options.accelerator,
    whole: model.compiled.isFullyAccelerated,
    outputs: {},
    answers: [],
  };
  for (const [signature, inputs] of Object.entries(signatures)) {
    found.outputs[signature] = await outputs(model, signature, inputs);
  }
  for (const prompt of prompts) found.answers.push(await model.generate(prompt, steps, config));
  model.delete();
  found.seconds = [compiled - started, performance.now() - compiled].map((ms) => ms / 1000);
  return found;
}

const request = await (await fetch('/request')).json();
await loadLiteRt('/node_modules/@litertjs/core/wasm/', request.load);
const {vendor, architecture} = getWebGpuDevice()?.adapterInfo ?? {};
await report('device', vendor ? `${vendor} ${architecture}` : null);
for (const model of request.models) {
  await report('answer', {name: model.name, ...(await answers(model, request.options))});
}
await report('done', true);
