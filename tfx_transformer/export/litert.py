"""TFLite (LiteRT) files: one step function with an explicit cache, as several signatures."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tfx_transformer import bundle
from tfx_transformer.errors import InputError
from tfx_transformer.export.standalone import write_run_pyz
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.models.decoding import decode_one_token, reorder
from tfx_transformer.models.saving import load

# Lengths that the encoder is exported for; a text runs in the shortest that holds it.
ENCODER_LENGTHS = (16, 32, 64, 128, 256, 512, 1024)


def signatures(model, beams: int = 1) -> dict[str, tuple]:
    """The functions of a `Seq2SeqLM` as name -> (function, input signature), static shapes only.

    `encode_<length>`: encoder_token_ids int32 (1, length) -> memory float32 (1, length,
        hidden_dim). `prefill`: memory (1, S, hidden_dim) -> the cross-attention cache
        memory_k_<i>, memory_v_<i> of every block. `decode`: tokens int32 (1, 1), input_pos int32
        (1,), source_length int32 (1,), both caches -> logits float32 (1, 1, vocabulary_size) and
        the new kv_cache_k_<i>, kv_cache_v_<i>. `decode_beams`: the same for `beams` rows, with
        rows int32 (beams,), the row of the step before that each row continues.
    """
    config = model.config
    longest = config.max_sequence_length
    lengths = [length for length in ENCODER_LENGTHS if length < longest] + [longest]

    def encode(inputs):
        memory, _ = model.encode(inputs["encoder_token_ids"], training=False)
        padding = longest - inputs["encoder_token_ids"].shape[1]
        return {"memory": tf.pad(memory, [[0, 0], [0, padding], [0, 0]])}

    def prefill(inputs):
        return _named("memory", model.project_memory(inputs["memory"]))

    def decode(inputs):
        cache = _pairs("kv_cache", inputs)
        if "rows" in inputs:
            cache = reorder(cache, inputs["rows"])
        mask = tf.range(longest)[None, None, :] < inputs["source_length"]
        logits, cache = decode_one_token(
            model,
            inputs["tokens"][:, 0],
            inputs["input_pos"][0],
            _pairs("memory", inputs),
            mask,
            cache,
        )
        return {"logits": logits[:, None], **_named("kv_cache", cache)}

    def decode_inputs(rows: int) -> dict[str, tf.TensorSpec]:
        heads = (config.num_key_value_heads, longest, config.head_dim)
        layers = range(config.num_decoder_layers)
        return {
            "tokens": _spec("tokens", (rows, 1), tf.int32),
            "input_pos": _spec("input_pos", (1,), tf.int32),
            "source_length": _spec("source_length", (1,), tf.int32),
            **{
                name: _spec(name, (batch, *heads))
                for kind, batch in (("kv_cache", rows), ("memory", 1))
                for name in _names(kind, layers)
            },
        }

    table = {
        f"encode_{length}": (
            encode,
            {"encoder_token_ids": _spec("encoder_token_ids", (1, length), tf.int32)},
        )
        for length in lengths
    }
    table["prefill"] = (prefill, {"memory": _spec("memory", (1, longest, config.hidden_dim))})
    table["decode"] = (decode, decode_inputs(1))
    if beams > 1:
        rows = {"rows": _spec("rows", (beams,), tf.int32)}
        table["decode_beams"] = (decode, decode_inputs(beams) | rows)
    return table


def litert(path: str | os.PathLike, quantize: str | None = None, beams: int = 4) -> None:
    """Adds a TFLite file to a bundle: `model.tflite`, or `model.int8.tflite`.

    Args:
        path: the bundle's folder.
        quantize: None: float32; "int8": 8-bit weights, activations quantized as they come.
        beams: also export beam search of this width; 1: greedy decoding and sampling only.

    Raises:
        InputError: the bundle is damaged, or an argument is none of these.
    """
    if quantize not in (None, "int8"):
        raise InputError(f"quantize is {quantize!r}.\n  Expected None or 'int8'.")
    GenerationOptions(beams=beams)  # refuses a width that could never be asked for
    model, _ = load(path)
    with bundle.updating(path) as folder:
        file = folder / bundle.LITERT[quantize or "float32"]
        convert(model, file, quantize, beams)
        write_run_pyz(folder)


def convert(model, path: str | os.PathLike, quantize: str | None = None, beams: int = 1) -> None:
    """Writes a model as one TFLite file.

    Args:
        model: a float32 `Seq2SeqLM`.
        quantize: None: float32; "int8": 8-bit weights, activations quantized as they come.
        beams: also export a decode step for this many beams.

    Raises:
        RuntimeError: the file would need operations outside LiteRT's built-in ones, or would
            answer from variables that were never set.
    """
    table = signatures(model, beams)
    with tempfile.TemporaryDirectory() as folder, _shared_embedding_table(model):
        archive = keras.export.ExportArchive()
        archive.track(model)
        for name, (function, specs) in table.items():
            archive.add_endpoint(name, function, input_signature=[specs])
        with contextlib.redirect_stdout(sys.stderr):
            archive.write_out(folder, verbose=False)
        _convert_in_subprocess(folder, path, list(table), quantize)
    _check_operations(path)


@contextlib.contextmanager
def _shared_embedding_table(model):
    """Looks tokens up by an operation that becomes EMBEDDING_LOOKUP.

    A table read by GATHER stays float32 when the file is quantized, beside the int8 copy that the
    read-out uses; EMBEDDING_LOOKUP reads the same int8 table.
    """

    @tf.function(experimental_implements="embedding_matmul")
    def lookup(table, ids):
        return tf.gather(table, ids)

    def lookup_any_shape(table, ids):
        vectors = lookup(table, tf.reshape(ids, [-1]))
        return tf.reshape(vectors, [*ids.shape, table.shape[1]])

    embedding = model.embedding
    embedding.lookup = lookup_any_shape
    try:
        yield
    finally:
        del embedding.lookup


def _convert_in_subprocess(
    saved_model: str, path: str | os.PathLike, names: Sequence[str], quantize: str | None
) -> None:
    """The converter leaks memory and prints from C++, so it has a process of its own."""
    request = json.dumps(
        {"saved_model": saved_model, "path": str(path), "names": names, "quantize": quantize}
    )
    script = Path(__file__).with_name("convert_litert.py")
    result = subprocess.run(
        [sys.executable, "-P", str(script)], input=request, capture_output=True, text=True
    )
    if result.returncode:
        raise RuntimeError(f"the TFLite converter failed:\n{result.stderr[-2000:]}")


def _check_operations(path: str | os.PathLike) -> None:
    """Refuses a file with Flex operations (not in LiteRT) or VAR_HANDLEs (weights left behind)."""
    operations = operation_names(path)
    unwanted = sorted(o for o in operations if o.startswith("Flex") or o == "VAR_HANDLE")
    if unwanted:
        Path(path).unlink()
        raise RuntimeError(
            f"the TFLite file would hold {', '.join(unwanted)}, which LiteRT cannot run."
        )


def operation_names(path: str | os.PathLike) -> set[str]:
    """Names of all operations in a TFLite file, such as FULLY_CONNECTED or FlexErf."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model = schema.Model.GetRootAs(Path(path).read_bytes(), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    return {
        code.CustomCode().decode()
        if code.BuiltinCode() == schema.BuiltinOperator.CUSTOM
        else names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        for code in codes
    }


def _names(kind: str, layers) -> list[str]:
    return [f"{kind}_{part}_{layer}" for layer in layers for part in "kv"]


def _named(kind: str, pairs) -> dict[str, tf.Tensor]:
    flat = [tensor for pair in pairs for tensor in pair]
    return dict(zip(_names(kind, range(len(pairs))), flat, strict=True))


def _pairs(kind: str, tensors: dict[str, tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
    layers = sum(name.startswith(f"{kind}_k_") for name in tensors)
    return [(tensors[f"{kind}_k_{i}"], tensors[f"{kind}_v_{i}"]) for i in range(layers)]


def _spec(name: str, shape: tuple[int, ...], dtype=tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)
