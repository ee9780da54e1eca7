"""The inside of a model: states and caches while it reads and writes, norms of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfx_transformer.errors import InputError
from tfx_transformer.generation.preprocessors import new_preprocessor
from tfx_transformer.models.decoding import compile_function, pad_source
from tfx_transformer.models.saving import parameters
from tfx_transformer.reprs import quantity
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer


class CacheStates(NamedTuple):
    """The sizes of the keys and values in the cache of a generation, step by step.

    tokens: the token of each slot; keys, values: float32 (steps, layers, slots), the length of a
    slot's key (value) over all heads, 0 while the slot is empty.
    """

    tokens: list[str]
    keys: np.ndarray
    values: np.ndarray


def text_ids(model: keras.Model, tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids that a model reads of a text, cut to the length of its context."""
    longest = model.config.max_sequence_length
    if not model.writes:
        return frame(tokenizer, text, longest)
    return new_preprocessor(model.task, tokenizer).encode(text)[:longest]


def token_bytes(tokenizer: Tokenizer, ids: Sequence[int]) -> list[bytes]:
    """Return the bytes of each token, even part of a character; of a special one its name."""
    names = {index: name.encode() for name, index in tokenizer.special_tokens.items()}
    return [names[i] if i in names else tokenizer.decode_bytes([i]) for i in map(int, ids)]


def hidden_states(model: keras.Model, content: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Return the vectors of one text or image between the layers.

    They are those of the encoder, or of the decoder in a decoder-only model.

    Args:
        content: token ids of a text, without padding (see `text_ids`), or float (image_size,
            image_size, 3), colours from 0 to 255.

    Returns: num_layers + 1 arrays, float32 (length, hidden_dim): the input of the first block, then
        the output of each block.
    """
    x = model.embed_content(np.asarray(content)[None])
    _, states = model.first_stack(x, return_hidden_states=True, training=False)
    return [np.asarray(ops.cast(state[0], "float32")) for state in states]


def self_attention(model: keras.Model, content: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the attention between the tokens of a text, or between the regions of an image.

    It is that of the encoder, or of the decoder in a decoder-only model, where a token sees only
    itself and those before it.

    Args:
        content: see `hidden_states`.

    Returns: float32 (num_layers, num_heads, length, length); row i holds the weights of token i,
        which sum to 1.
    """
    x = model.embed_content(np.asarray(content)[None])
    _, scores = model.first_stack(x, return_attention_scores=True, training=False)
    return np.stack([np.asarray(ops.cast(score[0], "float32")) for score in scores])


def mean_states(
    model: keras.Model, texts: Sequence[Sequence[int]], batch_size: int = 32
) -> np.ndarray:
    """Return one vector per text from a model that was not trained for it: the mean of the stack's
    output, final normalization included, over the tokens of the text.

    Args:
        texts: token ids of each, without padding.

    Returns: float32 (texts, hidden_dim).
    """
    padding_id = model.config.padding_id

    def mean_of(token_ids):
        mask = ops.not_equal(token_ids, padding_id)
        x = model.first_stack(
            model.embed_content(token_ids),
            attention_mask=ops.expand_dims(mask, 1),
            training=False,
        )
        weights = ops.expand_dims(ops.cast(mask, "float32"), 2)
        return ops.sum(ops.cast(x, "float32") * weights, axis=1) / ops.sum(weights, axis=1)

    # Tracing a graph takes about ten times as long as running it once.
    is_one_batch = len(texts) <= batch_size
    read = mean_of if is_one_batch else compile_function(mean_of, [("int32", 2)])
    order = np.argsort([len(ids) for ids in texts], kind="stable")  # little padding in a batch
    vectors = np.empty((len(texts), model.config.hidden_dim), "float32")
    for start in range(0, len(texts), batch_size):
        rows = order[start : start + batch_size]
        vectors[rows] = read(pad_source([texts[row] for row in rows], padding_id))
    return vectors


def image_states(model: keras.Model, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Return one vector per image: the mean of the encoder's output over the regions of the image.

    Args:
        images: float (n, image_size, image_size, 3), colours from 0 to 255.

    Returns: float32 (n, hidden_dim).
    """
    read = compile_function(lambda batch: model.encode({"images": batch})[0], [("float32", 4)])
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return np.concatenate([np.asarray(read(b), "float32").mean(axis=1) for b in batches])


def cache_states(
    model: keras.Model, tokenizer: Tokenizer, prompt: str, steps: int = 16
) -> CacheStates:
    """Return the sizes in the key/value cache of a greedy generation, after every step.

    A decoder-only model has its prompt in the cache from the first step on; an encoder-decoder
    keeps its source elsewhere and fills the cache with the tokens that it writes.

    Args:
        model: a `CausalLM` or a `Seq2SeqLM`.
        prompt: the text that it reads.
        steps: most steps; fewer if the text ends or the context is full before.

    Raises:
        InputError: the model writes no text, `steps` is below 1, or the prompt leaves no room.
    """
    if not model.writes:
        raise InputError(f"a model of task {model.task!r} writes nothing and has no cache.")
    if steps < 1:
        raise InputError(f"steps is {steps}.\n  Expected 1 or more.")
    preprocessor = new_preprocessor(model.task, tokenizer)
    prompt_ids = preprocessor.encode(prompt)
    limit = min(steps, model.room(len(prompt_ids)))
    if limit < 1 or len(prompt_ids) > model.config.max_sequence_length:
        raise InputError(
            f"the prompt has {quantity(len(prompt_ids), 'token')}, the model holds "
            f"{model.config.max_sequence_length:,}.\n  Shorten it."
        )
    ids, context, cache = model.begin(
        np.array([prompt_ids], "int32"), np.int32(len(prompt_ids)), np.int32(limit)
    )
    written = [int(ids[0])]
    keys, values = [], []
    for index in range(limit):
        logits, cache = model.step(ids, np.int32(index), context, cache)
        keys.append([_slot_norms(key) for key, _ in cache])
        values.append([_slot_norms(value) for _, value in cache])
        ids = np.argmax(np.asarray(logits), axis=-1).astype("int32")
        if int(ids[0]) == preprocessor.end_id:
            break
        written.append(int(ids[0]))
    before = prompt_ids[:-1] if model.prompt_in_cache else []
    slots = [*before, *written][: len(before) + len(keys)]
    return CacheStates(
        tokenizer.tokens(slots),
        *(np.array(norms, "float32")[:, :, : len(slots)] for norms in (keys, values)),
    )


def _slot_norms(x) -> np.ndarray:
    """float32 (slots,) of one row's keys or values, (1, heads, slots, head_dim)."""
    return np.linalg.norm(np.asarray(ops.cast(x[0], "float32")), axis=(0, 2))


def weight_norms(model: keras.Model) -> list[dict[str, Any]]:
    """One row per weight: its path, shape, norm, mean and standard deviation."""
    return [
        {
            "path": path,
            "shape": list(weight.shape),
            "norm": float(np.linalg.norm(weight)),
            "mean": float(weight.mean()),
            "std": float(weight.std()),
        }
        for path, weight in _arrays(model).items()
    ]


def weight_distance(before: keras.Model, after: keras.Model) -> list[dict[str, Any]]:
    """Return the changes of training: one row per weight of two checkpoints of one architecture.

    norm = |before|;  euclidean = |after - before|;  relative_change = euclidean / norm

    Returns: rows of path, norm, cosine (of the two weights as vectors; None if one of them is all
        zeros), euclidean and relative_change (None if `before` is all zeros).
    Raises:
        InputError: the two have different weights; some of them are named.
    """
    olds, news = _arrays(before), _arrays(after)
    _check_alike(olds, news)
    rows = []
    for path, old in olds.items():
        norm, moved = np.linalg.norm(old), np.linalg.norm(news[path] - old)
        both = norm * np.linalg.norm(news[path])
        row = {
            "path": path,
            "norm": float(norm),
            "cosine": float(np.clip(np.vdot(old, news[path]) / both, -1, 1)) if both else None,
            "euclidean": float(moved),
            "relative_change": float(moved / norm) if norm else None,
        }
        rows.append(row)
    return rows


def _arrays(model: keras.Model) -> dict[str, np.ndarray]:
    return {path: np.asarray(w.value, "float64") for path, w in parameters(model).items()}


def _check_alike(olds: Mapping[str, np.ndarray], news: Mapping[str, np.ndarray]) -> None:
    problems = [f"{path} is in one of them only" for path in sorted(olds.keys() ^ news.keys())]
    problems += [
        f"{path} has shape {olds[path].shape} and {news[path].shape}"
        for path in olds
        if path in news and olds[path].shape != news[path].shape
    ]
    if problems:
        raise InputError(
            "the two models are not of one architecture:\n  " + "\n  ".join(problems[:5])
        )
