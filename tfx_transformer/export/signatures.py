"""The signatures of a TFLite file: step functions with an explicit cache, for several shapes."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import tensorflow as tf
from keras import ops

from tfx_transformer.models.decoding import reorder

# Lengths of an exported encoder; a text runs in the shortest into which it fits.
ENCODER_LENGTHS = (16, 32, 64, 128, 256, 512, 1024)

# Batch sizes of an encoder-only model; the last texts or images of many run one by one.
ENCODER_ROWS = (1, 8)

# Texts up to this length run in batches: a longer one keeps the machine busy by itself.
TOGETHER = 64

# Lengths of the pieces in which a decoder-only model reads a prompt; a shorter piece is padded.
# Length 1 is for the last slots of the context, into which a longer piece does not fit.
PREFILL_LENGTHS = (1, 16, 64, 256, 1024)

# A step reads the whole cache, full or not, and XNNPACK copies all that it reads. So there are also
# steps for shorter texts: with these numbers of slots, if less than two thirds of the context; of
# an encoder-decoder every second number. A decoder-only model also has prefills for some of the
# numbers. Its steps have caches of their own, since to read a slice of a longer cache copies it:
# that took 11 % of the time of a step of GPT-2 small in int8, and 26 % with eight texts.
FIRST_SLOTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PREFILLED_SLOTS = (256, 1024, 4096, 16384)

# Texts that are continued together, one token of each per step: by a decoder-only model (ROWS),
# whose step computes the attention of each text separately, and by an encoder-decoder (TEXTS).
ROWS = 8
TEXTS = 16

# Slots of the caches with which an encoder-decoder answers several texts together. Each step reads
# all slots of all texts: with 256 of them, 16 short texts took longer together than one by one.
# Longer texts take turns.
TOGETHER_SLOTS = 64

# Lengths of the sources whose memory is projected into such caches; shorter ones are padded.
TOGETHER_LENGTHS = (16,)

# Tokens that `verify_<length>` reads at once: the next one and drafted ones. XNNPACK multiplies 5
# (int8) or 7 (float32) rows with a matrix in little more time than 1.
DRAFTED = 5


def encoder_lengths(longest: int) -> list[int]:
    """Return the lengths of an encoder that reads at most `longest` tokens, in order."""
    return [length for length in ENCODER_LENGTHS if length < longest] + [longest]


def encoder_signatures(
    model, beams: int = 1, context: int | None = None, rows: int | None = None
) -> dict[str, tuple]:
    """Return the functions of an encoder-only model; only `model` is used, see `tasks.Task`.

    `run_<rows>x<length>`: token_ids int32 (rows, length), or for images `run_<rows>`: images
        float32 (rows, image_size, image_size, 3) -> output float32 (rows, width), logits or
        vectors; for a `Tagger` float32 (rows, length, tags), logits of each token.
    `features_1`, of an image classifier: images float32 (1, image_size, image_size, 3) -> output
        float32 (1, width), the vector that the Transformer's logits are computed from.
    """
    config = model.config

    def run(inputs):
        return {"output": tf.cast(model(inputs, training=False), tf.float32)}

    def features(inputs):
        return {"output": tf.cast(model.features(inputs, training=False), tf.float32)}

    if config.image_size:
        shape = (config.image_size, config.image_size, 3)
        table = {
            f"run_{rows}": (run, {"images": _spec("images", (rows, *shape))})
            for rows in ENCODER_ROWS
        }
        return table | {"features_1": (features, {"images": _spec("images", (1, *shape))})}
    lengths = encoder_lengths(config.max_sequence_length)
    shapes = [(rows, n) for rows in ENCODER_ROWS for n in lengths if rows == 1 or n <= TOGETHER]
    return {
        f"run_{rows}x{length}": (run, {"token_ids": _spec("token_ids", (rows, length), tf.int32)})
        for rows, length in shapes
    }


def causal_signatures(
    model, beams: int = 1, context: int | None = None, rows: int | None = None
) -> dict[str, tuple]:
    """Return the functions of a `CausalLM`; those for one text have the names and shapes that
    LiteRT-LM expects. `beams` is not used, see `tasks.Task`.

    `prefill_<length>`: tokens int32 (1, length), input_pos int32 (length,) and the cache
        kv_cache_k_<i>, kv_cache_v_<i> of every block, float32 (1, num_key_value_heads, context,
        head_dim) -> the new cache. `decode`: the same with length 1 -> the new cache and logits
        float32 (1, 1, vocabulary_size). `decode_<rows>`, which LiteRT-LM does not know: tokens
        int32 (rows, 1), input_pos int32 (rows,), and a cache for each row as for one text,
        kv_cache_k_<i>_<row> and kv_cache_v_<i>_<row> -> the new caches and logits float32
        (rows, 1, vocabulary_size). `verify_<length>`, unless rows is 1: as `decode`, with tokens
        int32 (1, length), input_pos int32 (length,) and the logits after each of them, float32 (1,
        length, vocabulary_size). `first_<slots>_<name>`: the same function with caches of so many
        slots; for texts that fit into them.
    """
    context, rows = context or model.config.max_sequence_length, rows or ROWS
    table = _causal_signatures(model, context, rows)
    for slots in (n for n in FIRST_SLOTS if 3 * n < 2 * context):
        for name, found in _causal_signatures(model, slots, rows).items():
            # A prefill of one token is for the last slots of the context.
            is_prefill = name.startswith("prefill_")
            if not is_prefill or (slots in PREFILLED_SLOTS and name != "prefill_1"):
                table[f"first_{slots}_{name}"] = found
    return table


def _causal_signatures(model, slots: int, rows: int) -> dict[str, tuple]:
    """Return the functions of `causal_signatures` with caches of so many slots."""
    config = model.config

    def inputs(length: int) -> dict[str, tf.TensorSpec]:
        return {
            "tokens": _spec("tokens", (1, length), tf.int32),
            "input_pos": _spec("input_pos", (length,), tf.int32),
            **_cache_specs("kv_cache", config, config.num_layers, 1, slots),
        }

    def prefill(inputs):
        cache, position = _pairs("kv_cache", inputs), inputs["input_pos"][0]
        return _by_name("kv_cache", model.prefill(inputs["tokens"], cache, position))

    def decode(inputs):
        cache, position = _pairs("kv_cache", inputs), inputs["input_pos"][0]
        logits, cache = model.step(inputs["tokens"][:, 0], 0, position, cache)
        return {"logits": logits[:, None], **_by_name("kv_cache", cache)}

    def verify(inputs):
        cache, position = _pairs("kv_cache", inputs), inputs["input_pos"][0]
        places = {"cache": cache, "position": position}
        logits, cache = model.decode(inputs["tokens"], **places, training=False)
        return {"logits": tf.cast(logits, tf.float32), **_by_name("kv_cache", cache)}

    def decode_rows(inputs):
        apart = [[inputs[f"{name}_{row}"] for row in range(rows)] for name in names]
        cache = list(zip(apart[::2], apart[1::2], strict=True))
        logits, cache = model.step(inputs["tokens"][:, 0], 0, inputs["input_pos"], cache)
        new = _by_name("kv_cache", cache)
        caches = {f"{name}_{row}": new[name][row] for name in names for row in range(rows)}
        return {"logits": logits[:, None], **caches}

    names = _names("kv_cache", range(config.num_layers))
    lengths = [n for n in PREFILL_LENGTHS if n <= slots]
    table = {f"prefill_{length}": (prefill, inputs(length)) for length in lengths}
    table["decode"] = (decode, inputs(1))
    if rows > 1 and slots >= DRAFTED:
        table[f"verify_{DRAFTED}"] = (verify, inputs(DRAFTED))
    if rows > 1:
        shape = (1, config.num_key_value_heads, slots, config.head_dim)
        apart = [f"{name}_{row}" for name in names for row in range(rows)]
        table[f"decode_{rows}"] = (
            decode_rows,
            {
                "tokens": _spec("tokens", (rows, 1), tf.int32),
                "input_pos": _spec("input_pos", (rows,), tf.int32),
                **{name: _spec(name, shape) for name in apart},
            },
        )
    return table


def seq2seq_signatures(
    model, beams: int = 1, context: int | None = None, rows: int | None = None
) -> dict[str, tuple]:
    """Return the functions of a `Seq2SeqLM`; `context` is not used, see `tasks.Task`.

    `encode_<length>`: encoder_token_ids int32 (1, length) -> memory float32 (1, length,
        hidden_dim). `prefill`: memory (1, S, hidden_dim) -> the cross-attention cache
        memory_k_<i>, memory_v_<i> of every block. `decode`: tokens int32 (1, 1), input_pos int32
        (1,), source_length int32 (1,), both caches -> logits float32 (1, 1, vocabulary_size) and
        the new kv_cache_k_<i>, kv_cache_v_<i>. `decode_beams`: the same for `beams` rows, with
        rows int32 (beams,), the row of the step before that each row continues. `verify_<length>`,
        unless rows is 1: as `decode`, with tokens int32 (1, length) and the logits after each of
        them, float32 (1, length, vocabulary_size). `first_<slots>_prefill`, unless rows is 1: as
        `prefill`, of the first vectors of the memory; zeros fill up the cross-attention cache.
        `first_<slots>_decode` and `first_<slots>_verify_<length>`: the same functions, which read
        only the first slots of the same caches; for sources and texts that fit into them.

    For several texts at a time, with slots for `TOGETHER_SLOTS` tokens of source and answer each,
    unless rows is 1 or the model has a sliding window:

    `decode_<texts>`: tokens int32 (texts, 1), input_pos int32 (texts,), source_length int32
        (texts,), slot int32 (1,), the slot of all caches that the step writes, visible float32
        (texts, 1, slots), 1 for each slot that a token sees, both caches with a row for each text
        -> logits float32 (texts, 1, vocabulary_size) and the new kv_cache_k_<i>, kv_cache_v_<i>.
        `decode_<texts>x<beams>`: the same with a token of every beam: tokens (texts, beams), logits
        (texts, beams, vocabulary_size). The beams of a text share its cache, which has a slot for
        each of them at every step: visible (texts, beams, slots * beams).
    `prefill_<texts>x<length>`: memory (1, S, hidden_dim), of which the first `length` vectors are
        read, row int32 (1,), and the cross-attention cache of all texts -> that cache with the
        text's row written.
    """
    config = model.config
    longest = config.max_sequence_length
    lengths = encoder_lengths(longest)

    def encode(inputs):
        memory, _ = model.encode(inputs["encoder_token_ids"], training=False)
        padding = longest - inputs["encoder_token_ids"].shape[1]
        return {"memory": tf.pad(memory, [[0, 0], [0, padding], [0, 0]])}

    def prefill(inputs, read=longest):
        padding = [[0, 0], [0, 0], [0, longest - read], [0, 0]]
        found = model.project_memory(inputs["memory"][:, :read])
        if read < longest:
            found = [[tf.pad(x, padding) for x in pair] for pair in found]
        return _by_name("memory", found)

    def decode(inputs, read=longest):
        cache, memory = _pairs("kv_cache", inputs), _pairs("memory", inputs)
        if "rows" in inputs:
            cache = reorder(cache, inputs["rows"])
        logits, cache = model.decode(
            inputs["tokens"],
            [tuple(x[:, :, :read] for x in pair) for pair in memory] if read < longest else memory,
            cross_attention_mask=tf.range(read)[None, None, :] < inputs["source_length"],
            cache=cache,
            position=inputs["input_pos"][0],
            cache_slots=read if read < longest else None,
            training=False,
        )
        return {"logits": tf.cast(logits, tf.float32), **_by_name("kv_cache", cache)}

    def decode_inputs(rows: int, length: int = 1) -> dict[str, tf.TensorSpec]:
        return {
            "tokens": _spec("tokens", (rows, length), tf.int32),
            "input_pos": _spec("input_pos", (1,), tf.int32),
            "source_length": _spec("source_length", (1,), tf.int32),
            **_cache_specs("kv_cache", config, config.num_decoder_layers, rows, longest),
            **_cache_specs("memory", config, config.num_decoder_layers, 1, longest),
        }

    table = {
        f"encode_{length}": (
            encode,
            {"encoder_token_ids": _spec("encoder_token_ids", (1, length), tf.int32)},
        )
        for length in lengths
    }
    steps = {
        "prefill": (prefill, {"memory": _spec("memory", (1, longest, config.hidden_dim))}),
        "decode": (decode, decode_inputs(1)),
    }
    if rows != 1 and longest >= DRAFTED:
        steps[f"verify_{DRAFTED}"] = (decode, decode_inputs(1, DRAFTED))
    table |= steps
    for slots in (n for n in FIRST_SLOTS[::2] if 3 * n < 2 * longest and rows != 1):
        for name, (function, inputs) in steps.items():
            part = functools.partial(function, read=slots)
            table[f"first_{slots}_{name}"] = (part, inputs)
    if beams > 1:
        inputs = decode_inputs(beams) | {"rows": _spec("rows", (beams,), tf.int32)}
        table["decode_beams"] = (decode, inputs)
    if rows != 1 and not config.sliding_window:
        table |= _together(model, rows or TEXTS, {1, beams})
    return table


def _together(model, texts: int, widths: Iterable[int]) -> dict[str, tuple]:
    """Return the functions of `seq2seq_signatures` for several texts at a time, with each of these
    numbers of beams."""
    config = model.config
    layers, slots = config.num_decoder_layers, min(config.max_sequence_length, TOGETHER_SLOTS)

    def prefill(length: int, inputs):
        place = (inputs["row"][0], 0, 0, 0)
        new = model.project_memory(inputs["memory"][:, :length])
        old = _pairs("memory", inputs)
        pairs = [zip(*both, strict=True) for both in zip(old, new, strict=True)]
        written = [[ops.slice_update(x, place, y) for x, y in pair] for pair in pairs]
        return _by_name("memory", written)

    def decode(beams: int, inputs):
        position = inputs["input_pos"][:, None]
        if config.position != "learned":  # a GPU reads no table at integers that are repeated
            position = tf.tile(position, [1, beams])
        inside = tf.range(slots)[None, None, :] < inputs["source_length"][:, None, None]
        logits, cache = model.decode(
            inputs["tokens"],
            _pairs("memory", inputs),
            cross_attention_mask=inside,
            cache=_pairs("kv_cache", inputs),
            position=position,
            first_slot=inputs["slot"][0] * beams,
            attention_mask=inputs["visible"] > 0.5,
            training=False,
        )
        return {"logits": tf.cast(logits, tf.float32), **_by_name("kv_cache", cache)}

    memory = _cache_specs("memory", config, layers, texts, slots)
    whole = (1, config.max_sequence_length, config.hidden_dim)
    read = {"memory": _spec("memory", whole), "row": _spec("row", (1,), tf.int32), **memory}
    table: dict[str, tuple] = {
        f"prefill_{texts}x{length}": (functools.partial(prefill, length), read)
        for length in [*(n for n in TOGETHER_LENGTHS if n < slots), slots]
    }
    for beams in widths:
        table[f"decode_{texts}" if beams == 1 else f"decode_{texts}x{beams}"] = (
            functools.partial(decode, beams),
            {
                "tokens": _spec("tokens", (texts, beams), tf.int32),
                "input_pos": _spec("input_pos", (texts,), tf.int32),
                "source_length": _spec("source_length", (texts,), tf.int32),
                "slot": _spec("slot", (1,), tf.int32),
                "visible": _spec("visible", (texts, beams, slots * beams)),
                **_cache_specs("kv_cache", config, layers, texts, slots * beams),
                **memory,
            },
        )
    return table


def _cache_specs(kind: str, config, layers: int, batch: int, length: int):
    shape = (batch, config.num_key_value_heads, length, config.head_dim)
    return {name: _spec(name, shape) for name in _names(kind, range(layers))}


def _names(kind: str, layers) -> list[str]:
    return [f"{kind}_{part}_{layer}" for layer in layers for part in "kv"]


def _by_name(kind: str, pairs) -> dict[str, tf.Tensor]:
    flat = [tensor for pair in pairs for tensor in pair]
    return dict(zip(_names(kind, range(len(pairs))), flat, strict=True))


def _pairs(kind: str, tensors: dict[str, tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
    layers = sum(name.startswith(f"{kind}_k_") for name in tensors)
    return [(tensors[f"{kind}_k_{i}"], tensors[f"{kind}_v_{i}"]) for i in range(layers)]


def _spec(name: str, shape: tuple[int, ...], dtype=tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)
