// A softmax head on vectors that do not change: multinomial logistic regression.

import {softmax} from './sampling.js';

const MOST_STEPS = 3000;
const TOLERANCE = 1e-5; // of the largest part of the gradient

/** Logits of a vector; weights: of each class, a weight for each part of a vector, then the bias. */
export function headLogits(weights, vector) {
  return weights.map((row) => {
    let sum = row[vector.length];
    for (let index = 0; index < vector.length; index++) sum += row[index] * vector[index];
    return sum;
  });
}

/**
 * The weights that make ½ |W|² + Σ -log softmax(W x + b)[y] smallest: what scikit-learn's
 * LogisticRegression fits by default. The bias is not penalised.
 *
 * vectors: of the examples; labels: of each, a class from 0 to classes - 1.
 *
 * By gradient descent with the steps of Barzilai and Borwein (1988).
 */
export function fitHead(vectors, labels, classes) {
  const width = vectors[0].length;
  let weights = new Float64Array(classes * (width + 1));
  let gradient = gradientOf(weights, vectors, labels, classes);
  const trace = vectors.reduce((sum, x) => sum + 1 + x.reduce((a, b) => a + b * b, 0), 0);
  let step = 1 / (1 + trace / 2);
  for (let count = 0; count < MOST_STEPS; count++) {
    if (gradient.every((value) => Math.abs(value) < TOLERANCE)) break;
    const next = weights.map((value, index) => value - step * gradient[index]);
    const after = gradientOf(next, vectors, labels, classes);
    let [moved, turned] = [0, 0];
    for (let index = 0; index < next.length; index++) {
      const way = next[index] - weights[index];
      moved += way * way;
      turned += way * (after[index] - gradient[index]);
    }
    step = turned > 0 ? moved / turned : step;
    [weights, gradient] = [next, after];
  }
  return Array.from({length: classes}, (_, row) =>
    weights.slice(row * (width + 1), (row + 1) * (width + 1)));
}

function gradientOf(weights, vectors, labels, classes) {
  const width = vectors[0].length;
  const gradient = weights.map((value, index) => ((index + 1) % (width + 1) ? value : 0));
  const rows = Array.from({length: classes}, (_, row) =>
    weights.subarray(row * (width + 1), (row + 1) * (width + 1)));
  for (const [example, vector] of vectors.entries()) {
    const found = softmax(headLogits(rows, vector));
    for (let row = 0; row < classes; row++) {
      const error = found[row] - (labels[example] === row ? 1 : 0);
      const start = row * (width + 1);
      for (let index = 0; index < width; index++) gradient[start + index] += error * vector[index];
      gradient[start + width] += error;
    }
  }
  return gradient;
}
