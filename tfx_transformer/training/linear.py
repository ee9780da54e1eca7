"""A linear classifier of n-grams and a trained Transformer, joined in one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfx_transformer.data.batches import pad
from tfx_transformer.evaluation.linear import (
    NGramWeights,
    choose_settings,
    fit_ngrams,
    ngram_keys,
    used_keys,
)
from tfx_transformer.layers.ngrams import LONGEST, MOST_BUCKETS, NGramLogits
from tfx_transformer.models.encoders import Classifier, config_for_fine_tuning

# Texts whose n-grams are hashed at once.
_TEXTS = 256
# Most numbers in the table of a linear classifier: 16 MiB of float32.
_MOST_NUMBERS = 1 << 22
_FEWEST_BUCKETS = 1024


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
    model: Classifier, weights: NGramWeights, deep_share: float, linear_share: float
) -> Classifier:
    """Return a classifier with the logits deep_share * (logits of the model) + linear_share *
    (logits of the linear classifier).

    Args:
        model: a text classifier without a linear part; it stays as it is.
        weights: weights of the linear classifier.
        deep_share, linear_share: factors on the logits.
    """
    tables = {"linear_buckets": len(weights.rarity), "linear_longest": weights.longest}
    tables["bag_dim"] = model.config.bag_dim
    config = config_for_fine_tuning(model.config, **tables)
    joined = Classifier(config, dtype=model.dtype_policy)
    trained = {weight.path: weight for weight in model.weights}
    for weight in joined.weights:
        if weight.path in trained:
            weight.assign(trained[weight.path].value)
    kernel, bias = joined.logits.trainable_weights
    kernel.assign(deep_share * kernel.value)
    bias.assign(deep_share * bias.value + linear_share * weights.bias)
    linear: Any = joined.linear
    linear.rarity.embeddings.assign(weights.rarity[:, None])
    linear.kernel.embeddings.assign(linear_share * weights.kernel)
    return joined
