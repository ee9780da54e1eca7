"""Rows of a model's training data, on which its weights are rounded to 4 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfx_transformer.data.batches import Batches, pad
from tfx_transformer.images import read_image, resize
from tfx_transformer.models.decoding import forced_inputs, pad_source, text_generator
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

# Most rows on which weights are rounded, and most tokens of all of them, padding included.
ROWS = 256
_TOKENS = 1 << 14

# Most tokens of a row: attention holds the square of their number in scores. A longer row is cut.
_LONGEST = 1024

# Texts that a model answers, so that its weights are rounded on its answers too.
_WRITTEN = 128

# Names of optional inputs that say where a token is.
_PLACES = ("positions", "segment_ids")

# Name of the optional mask in inputs: True where a prediction counts, bool (rows, length).
COUNTED = "counted"


def join_inputs(model: Any, batches: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the inputs of several batches as one batch: at most `ROWS` rows, fewer if they are
    long, each cut after 1,024 tokens.

    Args:
        model: the model that reads them.
        batches: inputs by name, int (rows, length) each, or images; perhaps with `COUNTED`.
    """
    joined = {}
    for name in (name for name in (*model.reads, *_PLACES, COUNTED) if name in batches[0]):
        arrays = [np.asarray(batch[name]) for batch in batches]
        if arrays[0].ndim == 2:
            fill = model.config.padding_id if name in model.reads else 0
            rows = [row[:_LONGEST] for array in arrays for row in array]
            padded = pad(rows, fill, model.config.max_sequence_length)
            joined[name] = padded.astype(arrays[0].dtype)
        else:
            joined[name] = np.concatenate(arrays)
    vectors = model.config.max_sequence_length  # of an image
    longest = max(x.shape[1] if x.ndim == 2 else vectors for x in joined.values())
    rows = max(1, min(ROWS, _TOKENS // longest))
    return {name: array[:rows] for name, array in joined.items()}


def training_rows(model: Any, batches: Batches) -> dict[str, np.ndarray]:
    """Return the inputs of a model in the first training batches, as `join_inputs`; for a model
    that writes also the mask `COUNTED`, True where the loss counts the next token."""
    found: list[dict[str, Any]] = []
    rows = 0
    for step in range(len(batches)):
        x, _, *weights = batches.batch(batches.examples(step))
        found.append({name: np.asarray(value) for name, value in model.by_name(x).items()})
        if model.scores_tokens and weights and weights[0] is not None:
            shape = found[-1][model.reads[-1]].shape
            found[-1][COUNTED] = np.asarray(weights[0]).reshape(shape) > 0
        rows += len(found[-1][model.reads[0]])
        if rows >= ROWS:
            break
    return join_inputs(model, found)


def read_inputs(
    model: Any, tokenizer: Tokenizer | None, examples: Sequence
) -> dict[str, np.ndarray] | None:
    """Return the inputs of a model for the first of some examples, as `join_inputs`; None: there
    are no examples. A generator answers the examples, and its answers are inputs too.

    Args:
        tokenizer: its tokenizer, if it reads texts.
        examples: texts, tuples of texts, or image files.
    """
    examples = list(examples)[:ROWS]
    if not examples:
        return None
    config = model.config
    if config.image_size:
        images = [resize(read_image(x), config.image_size, config.image_resize) for x in examples]
        inputs = {"images": np.stack(images)}
    elif model.writes:
        inputs = _written(model, tokenizer, examples)
    else:
        start = config.prompt(None) if model.makes_vectors else ""
        texts = [start + x if isinstance(x, str) else (start + x[0], *x[1:]) for x in examples]
        ids = [frame(tokenizer, text, config.max_sequence_length) for text in texts]
        inputs = {"token_ids": pad_source(ids, config.padding_id)}
    return join_inputs(model, [inputs])


def _written(model: Any, tokenizer: Any, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the inputs of a model that writes: texts, and its answers to them."""
    generator = text_generator(model, tokenizer)
    free: dict[str, Any] = {"free": True} if tokenizer.tools is not None else {}
    few = texts[:_WRITTEN]
    answers = generator.generate(few, truncate=True, **free)
    written = [
        (generator.encode(text, truncate=True), tokenizer.encode(answer))
        for text, answer in zip(few, answers, strict=True)
    ]
    inputs = forced_inputs(model, written)
    if model.prompt_in_cache:
        places = np.arange(inputs["token_ids"].shape[1])
        inputs[COUNTED] = np.array([places >= len(prompt) - 1 for prompt, _ in written])
    return inputs


def without_mask(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs as a model reads them, without `COUNTED`."""
    return {name: value for name, value in inputs.items() if name != COUNTED}
