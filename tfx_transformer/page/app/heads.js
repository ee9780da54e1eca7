// A softmax head on vectors that do not change: multinomial logistic regression.

const MOST_STEPS = 500;
const MEMORY = 10; // steps that the curvature is estimated from
const TOLERANCE = 1e-6; // of the largest part of the gradient
const SUFFICIENT = 1e-4; // share of the expected decrease that a step must reach

/** Logits of a vector; weights: of each class, a weight for each part of a vector, then the bias. */
export function headLogits(weights, vector) {
  return weights.map((row) => {
    let sum = row[vector.length];
    for (let index = 0; index < vector.length; index++) sum += row[index] * vector[index];
    return sum;
  });
}

/**
 * The weights that minimise c/2 |W|² + Σ -log softmax(W x + b)[y], as scikit-learn's
 * LogisticRegression does by default. c is 1, and 2 for two classes: there scikit-learn has one row
 * of weights, the difference of our two. The bias is not penalised.
 *
 * vectors: of the examples; labels: of each, a class from 0 to classes - 1.
 *
 * By L-BFGS (Liu and Nocedal 1989), with steps halved until the loss falls enough.
 */
export function fitHead(vectors, labels, classes) {
  const measure = (weights) => lossOf(weights, vectors, labels, classes);
  const steps = []; // {moved, turned}: the changes of the weights and of the gradient
  let weights = new Float64Array(classes * (vectors[0].length + 1));
  let {loss, gradient} = measure(weights);
  for (let count = 0; count < MOST_STEPS; count++) {
    if (gradient.every((value) => Math.abs(value) < TOLERANCE)) break;
    const direction = directionOf(gradient, steps);
    const slope = dot(direction, gradient);
    let step = steps.length ? 1 : 1 / Math.sqrt(dot(gradient, gradient));
    let next = null;
    for (; step > 1e-20 && next === null; step /= 2) {
      const moved = direction.map((value) => step * value);
      const found = measure(weights.map((value, index) => value + moved[index]));
      if (found.loss <= loss + SUFFICIENT * step * slope) next = {moved, ...found};
    }
    if (next === null) break; // no step lowers the loss any more
    const turned = next.gradient.map((value, index) => value - gradient[index]);
    if (dot(next.moved, turned) > 0) steps.push({moved: next.moved, turned});
    if (steps.length > MEMORY) steps.shift();
    weights = weights.map((value, index) => value + next.moved[index]);
    ({loss, gradient} = next);
  }
  const width = vectors[0].length + 1;
  return Array.from({length: classes}, (_, row) => weights.slice(row * width, (row + 1) * width));
}

function dot(one, other) {
  return one.reduce((sum, value, index) => sum + value * other[index], 0);
}

/** The direction of a step: -H g, H the inverse Hessian as the last steps show it, g the gradient. */
function directionOf(gradient, steps) {
  const direction = gradient.map((value) => -value);
  const shares = [];
  for (const {moved, turned} of steps.toReversed()) {
    const share = dot(moved, direction) / dot(moved, turned);
    shares.unshift(share);
    direction.forEach((value, index) => (direction[index] = value - share * turned[index]));
  }
  const last = steps.at(-1);
  const scale = last ? dot(last.moved, last.turned) / dot(last.turned, last.turned) : 1;
  direction.forEach((value, index) => (direction[index] = scale * value));
  for (const [place, {moved, turned}] of steps.entries()) {
    const back = dot(turned, direction) / dot(moved, turned);
    const share = shares[place] - back;
    direction.forEach((value, index) => (direction[index] = value + share * moved[index]));
  }
  return direction;
}

/** {loss, gradient} of all weights, in one list. */
function lossOf(weights, vectors, labels, classes) {
  const width = vectors[0].length;
  const penalty = classes === 2 ? 2 : 1;
  const isBias = (index) => (index + 1) % (width + 1) === 0;
  const gradient = weights.map((value, index) => (isBias(index) ? 0 : penalty * value));
  let loss = dot(gradient, weights) / 2;
  const rows = Array.from({length: classes}, (_, row) =>
    weights.subarray(row * (width + 1), (row + 1) * (width + 1)));
  for (const [example, vector] of vectors.entries()) {
    const logits = headLogits(rows, vector);
    const largest = Math.max(...logits);
    const powers = logits.map((value) => Math.exp(value - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    loss += Math.log(sum) + largest - logits[labels[example]];
    for (let row = 0; row < classes; row++) {
      const error = powers[row] / sum - (labels[example] === row ? 1 : 0);
      const start = row * (width + 1);
      for (let index = 0; index < width; index++) gradient[start + index] += error * vector[index];
      gradient[start + width] += error;
    }
  }
  return {loss, gradient};
}
