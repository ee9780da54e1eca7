// The page's side of the worker: each request returns a promise.

/** A refusal of the worker, by its name in texts.json, with the values that it mentions. */
export class Refused extends Error {
  constructor(name, values) {
    super(name);
    this.values = values;
  }
}

// A WebAssembly module that is valid only in browsers with relaxed SIMD.
const RELAXED_SIMD = Uint8Array.from([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15,
  65, 2, 253, 15, 253, 128, 2, 11,
]);

/** The bytes of a file, which is in the page itself or next to it. */
async function asset(name) {
  const held = document.getElementById(`file-${name}`);
  let bytes;
  if (held) {
    bytes = fromBase64(held.textContent);
    held.remove();
  } else {
    const response = await fetch(name);
    if (!response.ok) throw new Error(`${name}: ${response.status}`);
    bytes = new Uint8Array(await response.arrayBuffer());
  }
  const zipped = bytes[0] === 0x1f && bytes[1] === 0x8b; // a server may have unpacked it
  if (!zipped) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const bytes = atob(text.trim());
  const array = new Uint8Array(bytes.length);
  for (let index = 0; index < bytes.length; index++) array[index] = bytes.charCodeAt(index);
  return array;
}

export class Client {
  #waiting = new Map();
  #count = 0;
  #worker;
  #files;

  /** bundle: the description that the page holds. */
  constructor(bundle) {
    this.bundle = bundle;
  }

  /** Starts the worker with a model; accelerator: "wasm" or "webgpu". */
  async start(accelerator) {
    const simd = WebAssembly.validate(RELAXED_SIMD);
    const build = this.bundle.builds.find((name) => name === (simd ? 'simd' : 'compat'))
      ?? this.bundle.builds[0];
    this.#files ??= Promise.all([
      asset(this.bundle.model),
      asset(`litert.${build}.js.gz`),
      asset(`litert.${build}.wasm.gz`),
    ]);
    const [model, script, wasm] = await this.#files;
    this.#worker?.terminate();
    for (const {reject} of this.#waiting.values()) reject(new Refused('stopped', {}));
    this.#waiting.clear();
    const source = [script, '\n', document.getElementById('worker').textContent];
    const address = URL.createObjectURL(new Blob(source, {type: 'text/javascript'}));
    this.#worker = new Worker(address);
    this.#worker.onmessage = ({data}) => this.#receive(data);
    this.#worker.onerror = (event) => this.#fail(event.message || 'the worker did not start');
    const {answer} = await this.ask('load', {bundle: this.bundle, model, wasm, accelerator}).answer;
    return answer;
  }

  #receive({number, progress, answer, error, values, seconds}) {
    const waiting = this.#waiting.get(number);
    if (!waiting) return;
    if (progress) {
      waiting.show?.(progress);
      return;
    }
    this.#waiting.delete(number);
    if (error) waiting.reject(new Refused(error, values));
    else waiting.resolve({answer, seconds});
  }

  #fail(detail) {
    for (const {reject} of this.#waiting.values()) reject(new Refused('fault', {detail}));
    this.#waiting.clear();
  }

  /**
   * Asks the worker. Returns {answer: promise of {answer, seconds}, stop}.
   *
   * name: of a call of worker.js; options: of decoding; show: is given what is done so far.
   * Before `start` has a worker a request counts as stopped: views ask again when they are ready.
   */
  ask(name, request, {options, show} = {}) {
    if (!this.#worker) {
      return {answer: Promise.reject(new Refused('stopped', {})), stop: () => {}};
    }
    const number = (this.#count += 1);
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(number, {resolve, reject, show});
    });
    this.#worker.postMessage({number, name, request, options});
    const stop = () => {
      if (this.#waiting.has(number)) this.#worker.postMessage({number, name: 'stop'});
    };
    return {answer, stop};
  }
}
