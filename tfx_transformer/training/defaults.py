"""Default settings that depend on the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfx_transformer.console import doing
from tfx_transformer.data.labelled_text import LabelledTexts
from tfx_transformer.evaluation.linear import MOST_TEXTS, choose_settings, ngram_keys
from tfx_transformer.evaluation.texts import unspaced_share
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import FINE_PATTERN, PATTERN, Tokenizer
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.folder import CHECKPOINTS

# With fewer rows a class, training is by contrast; the steps and the batch size of that training.
_FEW = 20
_STEPS = 40
_MANY = 96
# Most numbers in the linear part of a model with a teacher.
_STUDENT = 750_000

Pieces = Literal["", "words", "characters"]

# From this share of texts without spaces on, a token is at most one of their characters.
_UNSPACED = 0.05
# Vocabulary sizes: the smallest, the largest of words, and of characters.
_SMALL, _LARGE, _CHARACTERS = 400, 1000, 2000


def classifier_defaults(
    rows: int,
    texts: Sequence[str],
    examples: LabelledTexts | None = None,
    given: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the settings of a new text classifier that depend on its training rows.

    pieces: "characters" if 5 % of the texts or more are without spaces between words, else "words",
    see `pieces_pattern`.
    max_length: 128; with "characters" and without a base 256.
    vocabulary_size: 500 + rows / 2, at most 1,000. With examples, cross-validation chooses between
    that, 400 and, with "characters", 2,000, by the log-loss of a linear classifier; see
    `evaluation.linear.choose_settings`. Few rows have few long tokens often enough to learn from,
    and short tokens occur in new texts too. docs/quality.md has the figures.

    Args:
        rows: count of training rows, without the held-out ones.
        texts: texts of these rows, or a sample.
        examples: the training rows; None: no cross-validation.
        given: settings of the run; those that are None or "" are not given. There is no
            cross-validation where it would decide nothing, nor for several labels a row.
    """
    given = given or {}
    pieces = given.get("pieces") or _pieces(texts)
    is_long = pieces == "characters" and not given.get("base")
    max_length = given.get("max_length") or (256 if is_long else 128)
    size = min(500 + rows // 2, _LARGE)
    if examples is not None and _may_choose(given):
        sizes = {_SMALL, size} | ({_CHARACTERS} if pieces == "characters" else set())
        size = _best_size(sizes, texts, examples, pieces, max_length)
    return {"pieces": pieces, "max_length": max_length, "vocabulary_size": size}


def pieces_pattern(pieces: Pieces) -> str:
    """Return the pattern that splits texts for a tokenizer, see `Tokenizer.train`: `FINE_PATTERN`
    for "characters", where a character of a script without spaces is a piece of its own, else
    `PATTERN`, where runs of one script are."""
    return FINE_PATTERN if pieces == "characters" else PATTERN


def embedder_defaults(has_teacher: bool = False, has_base: bool = False) -> dict[str, Any]:
    """Return the settings of a new embedder; interrupted runs of earlier versions keep their own.

    vocabulary_size: 8,000 tokens at most: most words are then one token, and its vector in the bag
    of tokens covers all parts of the word. case: lower, for the same reason. bag_width: 256;
    cosines of random projections are within about 1/16. docs/quality.md has the figures. A model
    with a teacher is to fit a phone: with 4,000 tokens and the default size it has 1.9 million
    parameters, with 8,000 tokens 3.5 million. With a base its tokenizer says which letters it
    reads, so there is no case.
    """
    tokens = 4000 if has_teacher else 8000
    case = {} if has_base else {"case": "lower"}
    return {"vocabulary_size": tokens, **case, "bag_width": 256}


def embedder_tuning_defaults(width: int) -> dict[str, Any]:
    """Return the settings to fine-tune a pre-trained encoder as an embedder.

    The learning rate is 3e-5 up to a width of 384, and falls with the width to the power of 1.5, as
    in `fine_tuning_defaults`. It is lower than there, since the vectors of an embedder are to be
    kept, and only a few passes improve them. docs/quality.md has the figures.

    Args:
        width: of the encoder's vectors.
    """
    rate = 3e-5 * min(1.0, (384 / width) ** 1.5)
    return {"epochs": 4, "learning_rate": float(f"{rate:.2g}"), "layer_decay": 0.9}


def is_few(rows: int, classes: int) -> bool:
    """Return True if there are fewer than 20 rows for each class: a pre-trained encoder then learns
    more by contrast of the texts than from their labels."""
    return rows < _FEW * classes


def student_defaults(classes: int) -> dict[str, Any]:
    """Return the settings of a classifier with a teacher, which is to be small enough for a phone.

    linear_buckets: the largest power of two for which the linear part has at most 750,000 numbers:
    in each bucket one for each class, and the rarity. A Transformer of the default size has 1.1
    million parameters, or 1.3 million with tokens of one character, so both have below 2 million.
    Without this rule the linear part alone may have 4 million.

    Args:
        classes: count of classes.
    """
    return {"linear_buckets": 1 << ((_STUDENT // (classes + 1)).bit_length() - 1)}


def fine_tuning_defaults(
    width: int,
    rows: int,
    classes: int = 0,
    by_contrast: bool = False,
    method: Literal["full", "lora", "dora"] = "full",
) -> dict[str, Any]:
    """Return the settings to fine-tune a pre-trained encoder.

    The learning rate is 1.5e-4 up to a width of 384, and falls with the width to the power of 1.5:
    5.3e-5 for 768. Each layer learns at 0.9 of the rate of the one above. The passes read about
    24,000 rows in all; there are from 5 to 20 of them, or 3 over more than 20,000 rows. With
    classes and up to 10,000 rows, two answers to each text are compared (R-Drop). A training by
    contrast has large batches, about 40 steps and no early stopping, since few held-out rows decide
    nothing. Adapters have ten times the rate, the same in all layers: they begin without an effect,
    and the weights below them are frozen (Schulman et al. 2025, "LoRA Without Regret").
    docs/quality.md has the figures.

    Args:
        width: of the encoder's vectors.
        rows: count of training rows, without the held-out ones.
        classes: count of classes; 0: the rows have no classes.
        by_contrast: True for a training of vectors by contrast, see `is_few`.
        method: "full", or the kind of the adapters that are trained.
    """
    rate = 1.5e-4 * min(1.0, (384 / width) ** 1.5) * (1 if method == "full" else 10)
    decay = 0.9 if method == "full" else 1.0
    settings: dict[str, Any] = {"layer_decay": decay, "dropout": 0.1, "patience": 3}
    if by_contrast:
        epochs = min(max(-(-_STEPS // -(-rows // _MANY)), 3), 20)
        return settings | {
            "batch_size": _MANY,
            "learning_rate": float(f"{rate:.2g}"),
            "epochs": epochs,
            "patience": epochs,
            "consistency": 0.0,
        }
    least = 5 if rows <= 20_000 else 3
    return settings | {
        "batch_size": 32,
        "learning_rate": float(f"{rate:.2g}"),
        "epochs": min(max(-(-24_000 // rows), least), 20),
        "consistency": 4.0 if classes and rows <= 10_000 else 0.0,
    }


def fill_in(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings; those that are None or "" come from the interrupted run of that name
    that goes on, else from the defaults. A setting that the interrupted run does not have stays as
    it is: an earlier version began that run.

    Args:
        settings: settings of the run, by the names of the recipe's parameters.
        defaults: see `classifier_defaults` and `fine_tuning_defaults`; those that the recipe does
            not have are not used.
    """
    before = _interrupted(settings)
    known = defaults if before is None else before
    empty = [name for name in defaults if settings.get(name, 0) in (None, "")]
    return {**settings, **{name: known[name] for name in empty if name in known}}


def _interrupted(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of the interrupted run that goes on; None without one."""
    if settings.get("overwrite") or not settings.get("name"):
        return None
    before = Checkpoints(Path("runs", settings["name"], CHECKPOINTS)).peek()
    return None if before is None else before["settings"]


def _pieces(texts: Sequence[str]) -> Pieces:
    return "characters" if unspaced_share(texts) >= _UNSPACED else "words"


def _may_choose(given: Mapping[str, Any]) -> bool:
    """Return True if a vocabulary size is to be chosen, and a linear classifier can choose it."""
    is_given = any(given.get(name) for name in ("vocabulary_size", "base", "separator"))
    return not is_given and given.get("linear_buckets") != 0 and _interrupted(given) is None


def _best_size(
    sizes: Iterable[int],
    texts: Sequence[str],
    examples: LabelledTexts,
    pieces: Pieces,
    max_length: int,
) -> int:
    """Return the vocabulary size whose tokens have the least log-loss; the largest of equals."""
    doing("choosing a vocabulary")
    _, ids = np.unique([label for (label,) in examples.labels], return_inverse=True)
    drawn = np.random.default_rng(0).permutation(len(examples))[:MOST_TEXTS]
    losses = {}
    for size in sorted(sizes, reverse=True):
        tokenizer = Tokenizer.train(texts, size, pattern=pieces_pattern(pieces))
        rows = (frame(tokenizer, examples.texts[row], max_length) for row in drawn)
        losses[size] = choose_settings([ngram_keys(row) for row in rows], ids[drawn])[1]
    return min(losses, key=losses.__getitem__)
