// The next token from logits, and NumPy's random numbers: the same seed draws the same tokens.

const WORD = (1n << 32n) - 1n;
const WIDE = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** Yields the words of numpy.random.SeedSequence(entropy).generate_state(count, uint32). */
function seedWords(entropy, count) {
  const multiply = (a, b) => Math.imul(a, b) >>> 0;
  let constant = 0x43b0d7e5;
  const hash = (value) => {
    value = (value ^ constant) >>> 0;
    constant = multiply(constant, 0x931e8875);
    value = multiply(value, constant);
    return (value ^ (value >>> 16)) >>> 0;
  };
  const mix = (x, y) => {
    const result = (multiply(x, 0xca01f9dd) - multiply(y, 0x4973f715)) >>> 0;
    return (result ^ (result >>> 16)) >>> 0;
  };
  const pool = Array.from({length: 4}, (_, index) => hash(entropy[index] ?? 0));
  for (let source = 0; source < 4; source++) {
    for (let target = 0; target < 4; target++) {
      if (source !== target) pool[target] = mix(pool[target], hash(pool[source]));
    }
  }
  for (const word of entropy.slice(4)) {
    for (let target = 0; target < 4; target++) pool[target] = mix(pool[target], hash(word));
  }
  constant = 0x8b51f9dd;
  return Array.from({length: count}, (_, index) => {
    let value = (pool[index % 4] ^ constant) >>> 0;
    constant = multiply(constant, 0x58f38ded);
    value = multiply(value, constant);
    return (value ^ (value >>> 16)) >>> 0;
  });
}

/** The words of a whole number, the lowest first. */
function words(number) {
  const found = [];
  let left = BigInt(number);
  do {
    found.push(Number(left & WORD));
    left >>= 32n;
  } while (left);
  return found;
}

/**
 * The float32 numbers of numpy.random.default_rng([seed, index]).random(n, 'float32'), one at a
 * time: PCG64 (O'Neill 2014, XSL RR 128/64), of whose words the upper 24 bits count.
 */
export class Uniforms {
  constructor(seed, index = 0) {
    const wide = seedWords([...words(seed), ...words(index)], 8).map(BigInt);
    const pairs = [0, 2, 4, 6].map((at) => wide[at] | (wide[at + 1] << 32n));
    const state = (pairs[0] << 64n) | pairs[1];
    this.increment = ((((pairs[2] << 64n) | pairs[3]) << 1n) | 1n) & WIDE;
    this.state = 0n;
    this.#step();
    this.state = (this.state + state) & WIDE;
    this.#step();
    this.upper = null; // the half of a word that the next number takes
  }

  #step() {
    this.state = (this.state * MULTIPLIER + this.increment) & WIDE;
  }

  next() {
    let word = this.upper;
    this.upper = null;
    if (word === null) {
      this.#step();
      const mixed = (this.state >> 64n) ^ (this.state & ((1n << 64n) - 1n));
      const turn = this.state >> 122n;
      const turned = ((mixed >> turn) | (mixed << (64n - turn))) & ((1n << 64n) - 1n);
      word = Number(turned & WORD);
      this.upper = Number(turned >> 32n);
    }
    return (word >>> 8) / 2 ** 24;
  }
}

/** The index of the largest value, the first of equal ones. */
export function argmax(values) {
  let best = 0;
  for (let index = 1; index < values.length; index++) {
    if (values[index] > values[best]) best = index;
  }
  return best;
}

/** Softmax in float32. */
export function softmax(logits) {
  const largest = logits[argmax(logits)];
  const powers = Float32Array.from(logits, (value) => Math.exp(Math.fround(value - largest)));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

/**
 * The next token.
 *
 * logits: float32; seen: ids that were written already; uniforms: `Uniforms`; options: temperature
 * (0 takes the most probable token), topK, topP, repetitionPenalty, as in Python.
 */
export function nextToken(logits, seen, uniforms, options) {
  const {temperature = 0, topK = 0, topP = 1, repetitionPenalty = 1} = options;
  if (repetitionPenalty !== 1) {
    for (const id of new Set(seen)) {
      logits[id] = logits[id] > 0 ? logits[id] / repetitionPenalty : logits[id] * repetitionPenalty;
    }
  }
  if (!temperature) return argmax(logits);
  logits = logits.map((value) => value / temperature);
  if (topK > 0 && topK < logits.length) {
    const smallest = logits.slice().sort()[logits.length - topK];
    logits = logits.map((value) => (value < smallest ? -1e9 : value));
  }
  if (topP < 1) logits = nucleus(logits, topP);
  return draw(softmax(logits), uniforms.next());
}

/** Logits with all but the most probable tokens that together reach p made impossible. */
function nucleus(logits, p) {
  const probabilities = softmax(logits);
  const ascending = probabilities.slice().sort();
  let last = ascending.at(-1);
  let sum = 0;
  for (const value of ascending) {
    sum = Math.fround(sum + value);
    if (sum > 1 - p) {
      last = Math.min(last, value);
      break;
    }
  }
  return logits.map((value, index) => (probabilities[index] < last ? -1e9 : value));
}

/** The token at which the cumulative distribution passes `uniform`. */
function draw(probabilities, uniform) {
  let sum = 0;
  const cumulative = probabilities.map((value) => (sum = Math.fround(sum + value)));
  const bound = Math.fround(uniform * sum);
  const token = cumulative.findIndex((value) => value > bound);
  return token < 0 ? probabilities.length - 1 : token;
}
