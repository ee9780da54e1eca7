"""A linear classifier of n-grams, or of edges and colours, and a trained Transformer, joined in one
graph."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer.data.batches import pad
from tfx_transformer.data.labelled_image import LabelledImages, decode_images
from tfx_transformer.data.labelled_text import LabelledTexts
from tfx_transformer.evaluation.linear import (
    NGramWeights,
    choose_settings,
    choose_strength,
    fit_ngrams,
    fit_vectors,
    ngram_keys,
    used_keys,
)
from tfx_transformer.layers.edges import EdgeColorLogits, edge_color_count
from tfx_transformer.layers.ngrams import LONGEST, MOST_BUCKETS, NGramLogits
from tfx_transformer.models.encoders import Classifier, config_for_fine_tuning
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.text import TextClassifier
from tfx_transformer.text.framing import frame
from tfx_transformer.training.patches import patch_filters

# Texts that a linear classifier is fitted to, or images.
_MOST_TEXTS = 50_000
_MOST_IMAGES = 20_000
# Images that choose its settings: at most so many, and so many of images times classes, but not
# fewer than 30.
_CHOOSING = 3_000
_CHOOSING_NUMBERS = 200_000
_FEWEST_CHOOSING = 30

# Texts whose n-grams are hashed at once; images that are decoded, and whose features are computed,
# at once.
_TEXTS = 256
_DECODED = 512
_IMAGES = 64
# Most numbers in the table of a linear classifier: 16 MiB of float32.
_MOST_NUMBERS = 1 << 22
_FEWEST_BUCKETS = 1024


@dataclasses.dataclass(frozen=True)
class LinearPart:
    """A fitted linear classifier, to be joined with a Transformer.

    content: the features that it sees, as in "1,024 n-grams"; logits: those of the held-out
    examples, float32 (n, C); join: returns the joined model, given the factor on the Transformer's
    logits and that on those of the linear classifier.
    """

    content: str
    logits: np.ndarray
    join: Callable[[float, float], Classifier]


def ngram_part(
    model: Classifier,
    reader: TextClassifier,
    train: LabelledTexts,
    held_out: Sequence[Any],
    buckets: int,
    balanced: bool = False,
) -> LinearPart:
    """Return the linear classifier of n-grams that fits training texts best.

    Args:
        model: the classifier of texts that it will be joined with.
        reader: its predictor.
        train: the training texts; at most 50,000 are used.
        held_out: texts that training does not see.
        buckets: at most this many n-grams in the table.
        balanced: see `fit_ngrams`.
    """
    config, names = model.config, reader.labels.names
    drawn = np.random.default_rng(0).permutation(len(train))[:_MOST_TEXTS]
    read, apart = (
        [frame(reader.tokenizer, texts, config.max_sequence_length) for texts in rows]
        for rows in ((train.inputs[index] for index in drawn), held_out)
    )
    ids = train.targets(names)[drawn]
    weights, used = fit_linear(read, ids, len(names), config.padding_id, buckets, balanced)
    hashed = hash_ngrams(apart, len(weights.rarity), config.padding_id, weights.longest)
    joined = functools.partial(join, model, weights)
    return LinearPart(f"{used:,} n-grams", weights.logits(hashed), joined)


def edge_part(
    model: Classifier,
    reader: ImageClassifier,
    train: LabelledImages,
    held_out: Sequence[Any],
    cells: int,
    balanced: bool = False,
    patches: int = 0,
) -> LinearPart:
    """Return the linear classifier of edges, colours and patches that fits training images best,
    with settings chosen by cross-validation, see `choose_strength`.

    Args:
        model: the classifier of images that it will be joined with.
        reader: its predictor.
        train: the training images; at most 20,000 are used, and at most 3,000, or 200,000 /
            classes, choose the settings.
        held_out: images that training does not see.
        cells: parts along a side of an image, see `EdgeColorLogits`.
        balanced: see `fit_vectors`.
        patches: filters of patches, made of at most 512 training images; 0: none.
    """
    names = reader.labels.names
    drawn = np.random.default_rng(0).permutation(len(train))[:_MOST_IMAGES]
    files = [train.files[i] for i in drawn]
    filters = None
    if patches:
        shown = decode_images(files[:_DECODED], reader.image_size, reader.image_resize)
        filters = patch_filters(shown, patches)
    vectors, mirrored = edge_colors_of_files(files, reader, cells, True, filters)
    ids = train.targets(names)[drawn]
    few = slice(min(_CHOOSING, max(_CHOOSING_NUMBERS // len(names), _FEWEST_CHOOSING)))
    strength, both = choose_strength(vectors[few], mirrored[few], ids[few], balanced)
    if both:
        vectors, ids = np.concatenate([vectors, mirrored]), np.tile(ids, 2)
    kernel, bias = fit_vectors(vectors, ids, len(names), balanced, strength)
    joined = functools.partial(join_edges, model, kernel, bias, cells, filters=filters)
    (apart,) = edge_colors_of_files(held_out, reader, cells, filters=filters)
    kinds = "edges, colours and patches" if patches else "edges and colours"
    content = f"{len(kernel):,} numbers of {kinds}"
    return LinearPart(content, apart @ kernel + bias, joined)


def edge_colors_of_files(
    files: Sequence[Any],
    reader: ImageClassifier,
    cells: int,
    mirror: bool = False,
    filters: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Return the features of images, see `edge_colors`, and with `mirror` those of the mirrored
    images too. Few decoded images are in memory at a time.

    Args:
        files: image files, or images, as `decode_images` takes them.
        reader: says how images are resized.
        cells: parts along a side.
        mirror: compute the features of the mirrored images too.
        filters: see `edge_colors`.
    """
    found: list[list[np.ndarray]] = [[], []] if mirror else [[]]
    for start in range(0, len(files), _DECODED):
        part = files[start : start + _DECODED]
        images = decode_images(part, reader.image_size, reader.image_resize)
        for features, turned in zip(found, (images, images[:, :, ::-1]), strict=False):
            features.append(edge_colors(turned, cells, filters))
    return [np.concatenate(features) for features in found]


def edge_colors(images: np.ndarray, cells: int, filters: np.ndarray | None = None) -> np.ndarray:
    """Return the features of `EdgeColorLogits`, float32 (n, features).

    Args:
        images: 0 to 255, (n, size, size, 3).
        cells: parts along a side.
        filters: filters of patches, float (side, side, 3, count); None: none.
    """
    count = 0 if filters is None else filters.shape[-1]
    layer = EdgeColorLogits(images.shape[1], cells, 2, count, dtype="float32")
    layer.build()
    if filters is not None:
        layer.filters.assign(filters)
    found = np.zeros((len(images), edge_color_count(cells, count)), "float32")
    for start in range(0, len(images), _IMAGES):
        part = images[start : start + _IMAGES].astype("float32")
        found[start : start + len(part)] = keras.ops.convert_to_numpy(layer.features(part))
    return found


def hash_ngrams(
    rows: Sequence[Sequence[int]], buckets: int, padding_id: int, longest: int = LONGEST
) -> list[np.ndarray]:
    """Return the buckets of all n-grams of each text, int32 (longest * length,), see `NGramLogits`.

    Args:
        rows: token ids of each text, as the model reads them.
        buckets: number of buckets in the table.
        padding_id: fills up shorter texts.
        longest: tokens of the longest n-grams.
    """
    layer = NGramLogits(buckets, 2, longest)
    found = []
    for start in range(0, len(rows), _TEXTS):
        part = rows[start : start + _TEXTS]
        token_ids = pad(part, padding_id)
        hashed = np.asarray(layer.buckets(token_ids)).reshape(len(part), -1, token_ids.shape[1])
        found += [row[:, : len(ids)].ravel() for row, ids in zip(hashed, part, strict=True)]
    return found


def fit_linear(
    rows: Sequence[Sequence[int]],
    ids: np.ndarray,
    classes: int,
    padding_id: int,
    most: int = MOST_BUCKETS,
    balanced: bool = False,
) -> tuple[NGramWeights, int]:
    """Return a linear classifier of texts, with settings chosen by cross-validation, and the number
    of its n-grams.

    Args:
        rows: token ids of each text, as the model reads them.
        ids: int (texts,), classes from 0 to C - 1, two or more of them.
        classes: C.
        padding_id: fills up shorter texts.
        most: at most this many buckets.
        balanced: see `fit_ngrams`.
    """
    keys = [ngram_keys(row) for row in rows]
    settings, _ = choose_settings(keys, ids, balanced)
    used = used_keys(keys, settings)
    buckets = bucket_count(len(used), classes, most)
    hashed = hash_ngrams(rows, buckets, padding_id, settings.longest)
    places = np.isin(np.concatenate([row[: settings.longest].ravel() for row in keys]), used)
    taken = np.unique(np.concatenate(hashed)[places])
    weights = fit_ngrams(hashed, ids, classes, buckets, settings, taken, balanced)
    return weights, len(used)


def bucket_count(used: int, classes: int, most: int = MOST_BUCKETS) -> int:
    """Return the number of buckets of a table: the smallest power of two of at least 4 `used`, but
    at least 1,024 and at most `most`, and at most 2^22 numbers in the table.

    Args:
        used: number of different n-grams that the classifier uses.
        classes: number of classes.
        most: at most this many buckets.
    """
    limit = min(most, max(_MOST_NUMBERS // classes, _FEWEST_BUCKETS))
    wanted = max(1 << max(4 * used - 1, 1).bit_length(), _FEWEST_BUCKETS)
    return min(wanted, 1 << (limit.bit_length() - 1))


def join(
    model: Classifier, weights: NGramWeights, deep_factor: float, linear_factor: float
) -> Classifier:
    """Return a classifier with the logits deep_factor * (logits of the model) + linear_factor *
    (logits of the linear classifier).

    Args:
        model: a text classifier without a linear part; it stays as it is.
        weights: weights of the linear classifier.
        deep_factor, linear_factor: factors on the logits.
    """
    tables = {"linear_buckets": len(weights.rarity), "linear_longest": weights.longest}
    joined = _with_part(model, weights.bias, deep_factor, linear_factor, **tables)
    linear: Any = joined.linear
    linear.rarity.embeddings.assign(weights.rarity[:, None])
    linear.kernel.embeddings.assign(linear_factor * weights.kernel)
    return joined


def join_edges(
    model: Classifier,
    kernel: np.ndarray,
    bias: np.ndarray,
    cells: int,
    deep_factor: float,
    linear_factor: float,
    filters: np.ndarray | None = None,
) -> Classifier:
    """Return a classifier of images joined with a linear one, as `join` joins one of texts.

    Args:
        model: a classifier of images without a linear part; it stays as it is.
        kernel, bias: weights of the linear classifier, float32 (features, C) and (C,).
        cells: parts along a side, see `EdgeColorLogits`.
        deep_factor, linear_factor: factors on the logits.
        filters: see `edge_colors`.
    """
    patches = 0 if filters is None else filters.shape[-1]
    fields = {"linear_cells": cells, "linear_patches": patches}
    joined = _with_part(model, bias, deep_factor, linear_factor, **fields)
    linear: Any = joined.linear
    if filters is not None:
        linear.filters.assign(filters)
    linear.kernel.assign(linear_factor * kernel)
    return joined


def _with_part(
    model: Classifier, bias: np.ndarray, deep_factor: float, linear_factor: float, **fields: int
) -> Classifier:
    """Return the model with these fields of its configuration, its logits times its factor, and the
    other bias added to them; the linear part is new."""
    config = config_for_fine_tuning(model.config, bag_dim=model.config.bag_dim, **fields)
    joined = Classifier(config, dtype=model.dtype_policy)
    trained = {weight.path: weight for weight in model.weights}
    for weight in joined.weights:
        if weight.path in trained:
            weight.assign(trained[weight.path].value)
    kernel, own_bias = joined.logits.trainable_weights
    kernel.assign(deep_factor * kernel.value)
    own_bias.assign(deep_factor * own_bias.value + linear_factor * bias)
    return joined
