"""Random changes of images while a classifier trains, so that some thousand images are enough."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.data.batches import Batches, BatchPlan
from tfx_transformer.data.taught_text import UNLABELLED

# An image is shifted by at most this share of its width and height.
_SHIFT = 1 / 8
# Light, because a dog differs from a cat by shape and texture.
_BRIGHTNESS = 0.1
_CONTRAST = 0.2
# A rectangle is erased from this share of the images; its sides, as shares of the image's.
_ERASED = 0.25
_SIDES = (0.15, 0.6)
# Least probability of a class by a teacher, whose logarithm is taken.
_LEAST = 1e-30
# More numbers than any generator draws for one batch.
_DRAWS = 64


def augment_images(
    batches: Batches,
    image_size: int,
    seed: int = 0,
    mix: float = 0.5,
    temperature: float = 1.0,
) -> Batches:
    """Return the batches of `data.labelled_images`, or of `data.taught_images`, with images that
    change in every epoch.

    Every image is flipped or not, shifted by up to an eighth (its edge mirrored into the gap), and
    made a little lighter or darker; a rectangle of some images is erased. In some batches each
    image is then mixed with another one of its batch, and so are their labels: all pixels as in
    mixup (Zhang et al. 2018, alpha 0.2), or a rectangle as in CutMix (Yun et al. 2019, alpha 1);
    one of the two is drawn for each batch. A teacher's answer to an image holds for all changes of
    the image, and its probabilities are mixed as labels are. TensorFlow changes the next batches
    while the model trains; another backend of Keras changes each batch when it is read.

    The n-th batch depends only on the batch it is made of, the seed and n.

    Args:
        batches: a `tf.data.Dataset` of ({`images`}, labels, sample weights): float32 (batch,
            image_size, image_size, 3) from 0 to 255, float32 (batch, classes), or targets of
            `TaughtCrossentropy` (batch, 2, classes), and (batch,).
        image_size: width and height of the images.
        seed: seed of all random numbers.
        mix: share of the batches whose images are mixed.
        temperature: that of the loss, by which the teacher's logits are divided.

    Returns: a `tf.data.Dataset` of as many batches of the same kind.
    """
    drawn = (image_size, seed, mix, temperature)
    if keras.backend.backend() == "tensorflow":
        augment, _ = _changes(*drawn)
        changed = batches.map(augment).prefetch(4)
    else:
        numbers = itertools.count()  # goes on from epoch to epoch
        changed = _change_apart(batches, drawn, lambda: numbers)
    if not isinstance(batches, Batches):
        return changed
    start = functools.partial(_start, batches, drawn)
    return batches.replace(changed, start=start)


def _start(before: Batches, drawn: tuple[Any, ...], plan: BatchPlan, step: int):
    """Return augmented batches from any step on; the random numbers depend on the step.

    Args:
        before: the batches to change.
        drawn: arguments of `_changes`.
        plan, step: as for `Batches.start`.
    """
    batches = before.start(plan, step)
    if keras.backend.backend() != "tensorflow":
        return _change_apart(batches, drawn, lambda: itertools.count(step))
    augment, generators = _changes(*drawn)
    seeds = np.array([np.asarray(generator.state)[0] for generator in generators])

    def change(number, batch):
        for generator, first in zip(generators, seeds, strict=True):
            state = ops.stack([ops.convert_to_tensor(first, number.dtype), number * _DRAWS])
            generator.state.assign(ops.cast(state, generator.state.dtype))
        return augment(*batch)

    numbers = batches.counter(start=step)
    return batches.zip((numbers, batches)).map(change).prefetch(4).with_options(batches.options())


def _change_apart(batches: Any, drawn: tuple[Any, ...], numbers: Callable[[], Iterator[int]]):
    """Return augmented batches on a Keras backend other than TensorFlow: a function of arrays
    changes one batch after the other, as TensorFlow's graphs cannot have the backend's operations.

    Args:
        drawn: arguments of `_changes`.
        numbers: returns the numbers of the batches of an iteration; the random numbers of a batch
            depend on its number.
    """
    import tensorflow as tf

    augment, generators = _changes(*drawn)
    states = [generator.state for generator in generators]
    seeds = [np.asarray(ops.convert_to_numpy(state))[0] for state in states]

    def change(values, batch):
        with keras.StatelessScope(state_mapping=list(zip(states, values, strict=True))):
            return augment(*batch)

    if keras.backend.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        change = jax.jit(change)

    def generate():
        for batch, number in zip(batches.as_numpy_iterator(), numbers(), strict=False):
            done = number * _DRAWS
            values = [np.array([first, done], "uint32") for first in seeds]
            yield tf.nest.map_structure(ops.convert_to_numpy, change(values, batch))

    changed = tf.data.Dataset.from_generator(generate, output_signature=batches.element_spec)
    counted = tf.data.experimental.assert_cardinality(batches.cardinality())
    return changed.apply(counted).prefetch(4).with_options(batches.options())


def _changes(image_size: int, seed: int, mix: float, temperature: float):
    """Return a function that changes a batch, and the generators of all its random numbers; the
    arguments are those of `augment_images`."""
    # Layers with equal seeds would draw equal numbers: only images that are flipped would be lit.
    seeds = iter(np.random.SeedSequence(seed).generate_state(7).tolist())
    options = {"dtype": "float32"}  # whatever the precision of the model
    layers = [
        keras.layers.RandomFlip("horizontal", seed=next(seeds), **options),
        # From pixel to pixel, as padding and cropping does. RandomCrop cuts a whole batch alike.
        keras.layers.RandomTranslation(
            _SHIFT, _SHIFT, interpolation="nearest", seed=next(seeds), **options
        ),
        keras.layers.RandomBrightness(_BRIGHTNESS, seed=next(seeds), **options),
        # Keras (3.15) makes a range from 0 of a single number: contrast would only rise.
        keras.layers.RandomContrast((_CONTRAST, _CONTRAST), seed=next(seeds), **options),
    ]
    mix_up = keras.layers.MixUp(alpha=0.2, seed=next(seeds), **options)
    cut_mix = keras.layers.CutMix(factor=(1.0, 1.0), seed=next(seeds), **options)
    generator = keras.random.SeedGenerator(next(seeds))

    def augment(inputs, labels, weights):
        images = ops.reshape(inputs["images"], (-1, image_size, image_size, 3))
        for layer in layers:
            images = layer(images, training=True)
        images = _erase(images, generator)
        mixed = ops.cond(
            keras.random.uniform((), seed=generator) < mix,
            lambda: _mix((mix_up, cut_mix), generator, images, labels, weights, temperature),
            lambda: (images, labels, weights),
        )
        return {**inputs, "images": mixed[0]}, *mixed[1:]

    layers_with_state = [*layers, mix_up, cut_mix]
    return augment, [*(layer.generator for layer in layers_with_state), generator]


def _erase(images, generator):
    """Fill a rectangle of some images with one random colour (Zhong et al. 2020).

    `keras.layers.RandomErasing` makes mask and filling for every channel of every pixel, which took
    3.5 ms for 64 images of 32 x 32 on one core, more than all other changes; this takes 0.5 ms.
    """
    batch, height, width, channels = ops.shape(images)  # pyright: ignore
    random = keras.random.uniform((batch, 5), seed=generator)
    least, largest = _SIDES
    sides = least + (largest - least) * random[:, :2]
    starts = (1 - sides) * random[:, 2:4]
    sides = ops.where(random[:, 4:] < _ERASED, sides, 0.0)
    down = _inside(height, starts[:, :1], sides[:, :1])
    across = _inside(width, starts[:, 1:], sides[:, 1:])
    mask = ops.cast(down[:, :, None] & across[:, None, :], "float32")[..., None]
    colours = keras.random.uniform((batch, 1, 1, channels), 0, 255, seed=generator)
    # Not `where`: repeating the mask and the colours for it takes half as long again.
    return images + mask * (colours - images)


def _inside(length: int, start, side):
    """Return bool (batch, length): True for a pixel whose middle is in the stretch, in shares."""
    middle = (ops.arange(length, dtype="float32") + 0.5) / length
    return (middle >= start) & (middle < start + side)


def _mix(layers, generator, images, labels, weights, temperature):
    """Return a batch mixed by one of two layers; with a teacher `labels` are targets.

    The loss of a mixed image should be that of its parts, each with its own weight:
    sum_i p_i w_i L(y_i) = w L(y) with w = sum_i p_i w_i and y = sum_i p_i w_i y_i / w. As the
    labels of an example sum to 1, mixing w_i y_i gives both. A teacher's probabilities sum to 1
    too; an image without a label counts as one whose labels are all 0.
    """
    taught = len(labels.shape) == 3
    if taught:
        known = ops.maximum(labels[:, 0], 0.0)
        labels = ops.concatenate([known, ops.softmax(labels[:, 1] / temperature)], axis=-1)
    data = {"images": images, "labels": labels * weights[:, None]}
    first = keras.random.uniform((), seed=generator) < 0.5
    mixed: Any = ops.cond(
        first, *(lambda layer=layer: layer(dict(data), training=True) for layer in layers)
    )
    labels = mixed["labels"]
    parts: Any = ops.split(labels, 2, axis=-1) if taught else [labels]
    weights = ops.sum(parts[-1], axis=-1)
    labels = labels / ops.maximum(weights, keras.config.epsilon())[:, None]
    if taught:
        parts = ops.split(labels, 2, axis=-1)
        has_label = ops.sum(parts[0], axis=-1, keepdims=True) > 0
        known = ops.where(has_label, parts[0], UNLABELLED)
        answers = temperature * ops.log(ops.maximum(parts[1], _LEAST))
        labels = ops.stack([known, answers], axis=1)
    return mixed["images"], labels, weights
