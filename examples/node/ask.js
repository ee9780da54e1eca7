// Answers by a bundle of any task in Node.js, with the program of its page: see README.md.
//
//     tfx-transformer page ../../saved_models/topics --save topics
//     echo '["answer", {"texts": ["It rained all night."]}]' | node ask.js topics

import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import {gunzipSync} from 'node:zlib';

/**
 * Loads the model of a page's folder. Returns a function (name, request, options) -> promise of the
 * answer, as `tfx.ask` in the page; one model a process.
 */
async function open(folder) {
  const read = (name) => readFileSync(join(folder, name));
  const page = read('index.html').toString();
  const part = (id) => new RegExp(`<script[^>]* id="${id}">([^]*?)</script>`).exec(page)[1];
  const bundle = JSON.parse(part('bundle'));

  // The program is made for a worker of a browser, which receives and sends messages by `self`.
  const waiting = [];
  globalThis.self = globalThis;
  globalThis.importScripts = () => {};
  self.postMessage = ({progress, answer, error, values}) => {
    if (progress) return;
    const {resolve, reject} = waiting.shift();
    if (error) reject(new Error(`${error} ${JSON.stringify(values)}`));
    else resolve(answer);
  };
  const program = `${gunzipSync(read('litert.compat.js.gz'))}\n${part('worker')}`;
  new Function('require', '__dirname', program)(createRequire(import.meta.url), '.');

  const ask = (name, request, options = {}) => new Promise((resolve, reject) => {
    waiting.push({resolve, reject});
    self.onmessage({data: {name, request, options}});
  });
  const wasm = gunzipSync(read('litert.compat.wasm.gz'));
  await ask('load', {bundle, model: read(bundle.model), wasm, accelerator: 'wasm'});
  return ask;
}

const ask = await open(process.argv[2]);
const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
for await (const line of createInterface({input: process.stdin})) {
  const answer = await ask(...JSON.parse(line));
  console.log(JSON.stringify(answer ?? null, plain));
}
