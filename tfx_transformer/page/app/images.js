// Resizes images to the square that a model reads, as `images.resize` of the package does.

/**
 * float32 (size * size * 3) from 0 to 255: the whole image, with a triangle filter; or, with `how`,
 * as Pillow resizes, and of that the centre.
 *
 * pixels: uint8 (height * width * 3); how: of the bundle's `image_resize`.
 */
export function resizeImage(pixels, width, height, size, how = null) {
  if (how) return centre(byPillow(pixels, width, height, how), size);
  const across = filtered(Float32Array.from(pixels), height, width, size, triangle(width, size));
  return transposed(filtered(transposed(across, height, size), size, height, size,
    triangle(height, size)), size, size);
}

/** (columns * rows * 3) of (rows * columns * 3). */
function transposed(values, rows, columns) {
  const result = new values.constructor(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let colour = 0; colour < 3; colour++) {
        result[(column * rows + row) * 3 + colour] = values[(row * columns + column) * 3 + colour];
      }
    }
  }
  return result;
}

/** (rows * size * 3) of (rows * length * 3); weights: of each pixel of the result, [first, list]. */
function filtered(values, rows, length, size, weights) {
  const result = new Float32Array(rows * size * 3);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < size; column++) {
      const [first, list] = weights[column];
      for (let colour = 0; colour < 3; colour++) {
        let sum = 0;
        for (let index = 0; index < list.length; index++) {
          sum += list[index] * values[(row * length + first + index) * 3 + colour];
        }
        result[(row * size + column) * 3 + colour] = sum;
      }
    }
  }
  return result;
}

/** max(0, 1 - |(j + 1/2) - (i + 1/2) s| / max(s, 1)), s = length / size, of each pixel i. */
function triangle(length, size) {
  return weightsOf(length, size, 1, (distance) => Math.max(0, 1 - Math.abs(distance)));
}

/** [first pixel, weights that sum to 1] of each pixel of the result. */
function weightsOf(length, size, reach, filter) {
  const scale = length / size;
  const stretch = Math.max(scale, 1);
  return Array.from({length: size}, (_, index) => {
    const middle = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(middle - reach * stretch + 0.5));
    const end = Math.min(length, Math.trunc(middle + reach * stretch + 0.5));
    const list = Array.from({length: end - first}, (_, step) =>
      filter((first + step + 0.5 - middle) / stretch));
    const sum = list.reduce((a, b) => a + b, 0);
    return [first, list.map((weight) => (sum ? weight / sum : weight))];
  });
}

// Pillow's filters: the reach, in pixels of the result, and the weight at a distance.
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, (x) => {
    x = Math.abs(x);
    if (x === 0) return 1;
    return x >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x));
  }],
  bicubic: [2, (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  }],
  lanczos: [3, (x) => (x > -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/** {pixels, width, height} as Pillow resizes: first across, then down, each rounded to bytes. */
function byPillow(pixels, width, height, how) {
  let [wide, high] = [how.width, how.height];
  if ('shortest_edge' in how) {
    const shortest = Math.min(width, height);
    [wide, high] = [width, height].map((n) => Math.floor((how.shortest_edge * n) / shortest));
  }
  const rows = wholeColours(pixels, height, width, wide, how.filter);
  const columns = wholeColours(transposed(rows, height, wide), wide, height, high, how.filter);
  return {pixels: transposed(columns, wide, high), width: wide, height: high};
}

function wholeColours(values, rows, length, size, name) {
  if (length === size) return values;
  if (name === 'nearest') {
    return nearest(values, rows, length, size);
  }
  const [reach, filter] = FILTERS[name];
  const weights = weightsOf(length, size, reach, filter).map(([first, list]) => [
    first, list.map((weight) => Math.trunc(weight * 2 ** 22 + (weight < 0 ? -0.5 : 0.5))),
  ]);
  const sums = new Uint8ClampedArray(rows * size * 3);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < size; column++) {
      const [first, list] = weights[column];
      for (let colour = 0; colour < 3; colour++) {
        let sum = 2 ** 21;
        for (let index = 0; index < list.length; index++) {
          sum += list[index] * values[(row * length + first + index) * 3 + colour];
        }
        sums[(row * size + column) * 3 + colour] = Math.floor(sum / 2 ** 22);
      }
    }
  }
  return sums;
}

function nearest(values, rows, length, size) {
  const result = new Uint8ClampedArray(rows * size * 3);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < size; column++) {
      const from = (row * length + Math.floor(((column + 0.5) * length) / size)) * 3;
      result.set(values.subarray(from, from + 3), (row * size + column) * 3);
    }
  }
  return result;
}

/** float32 (size * size * 3). */
function centre({pixels, width, height}, size) {
  const top = Math.floor((height - size) / 2);
  const left = Math.floor((width - size) / 2);
  const result = new Float32Array(size * size * 3);
  for (let row = 0; row < size; row++) {
    const start = ((top + row) * width + left) * 3;
    result.set(pixels.subarray(start, start + size * 3), row * size * 3);
  }
  return result;
}
