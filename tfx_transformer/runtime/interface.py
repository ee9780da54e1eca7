"""The inputs and outputs of a model's TFLite file, by its configuration.

`export.signatures` makes them and documents their meaning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.runtime.model_file import Interface, Tensors

# Most differences in a message: enough to see the kind of model in the file.
_SHOWN = 8


def check(
    file: str | os.PathLike, found: dict[str, Interface], expected: dict[str, Interface]
) -> None:
    """Raise if the signatures of a file do not fit a configuration.

    Args:
        file: of the signatures, for the error.
        found: name -> signature of the file.
        expected: name -> signature of the configuration; the file may have others too.

    Raises:
        InputError: a signature is missing, or has other inputs or outputs; the message names up to
            eight differences.
    """
    problems = []
    for name, wanted in expected.items():
        if name not in found:
            problems.append(f"signature {name} is missing")
            continue
        problems += _differences(f"signature {name}: input", found[name].inputs, wanted.inputs)
        problems += _differences(f"signature {name}: output", found[name].outputs, wanted.outputs)
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise InputError(
            f"{file} is not of the model that config.json describes:\n  "
            + "\n  ".join([*problems[:_SHOWN], *more])
            + "\n  Copy the whole folder again, or export the model again."
        )


def encoder(
    config: TransformerConfig, width: int, rows: int, length: int, each_token: bool = False
) -> Interface:
    """Return the interface of `run_<rows>x<length>`, or of `run_<rows>` for images; each_token:
    True for an output for each token."""
    inputs: Tensors = {"token_ids": ("int32", (rows, length))}
    if config.image_size:
        inputs = {"images": ("float32", (rows, config.image_size, config.image_size, 3))}
    shape = (rows, length, width) if each_token else (rows, width)
    return Interface(inputs, {"output": ("float32", shape)})


def features(config: TransformerConfig) -> Interface:
    """Return the interface of `features_1`, of an image classifier."""
    several = config.pooling == "class_tokens" and not config.pooler
    width = config.hidden_dim * (config.class_tokens if several else 1)
    return encoder(config, width, 1, 0)


def causal(config: TransformerConfig, context: int, lengths: Iterable[int]) -> dict[str, Interface]:
    """Return the interfaces of `decode`, and of `prefill_<length>` for each length."""
    cache = _cache("kv_cache", config, config.num_layers, 1, context)
    logits: Tensors = {"logits": ("float32", (1, 1, config.vocabulary_size))}
    found = {"decode": Interface(_position(1, 1) | cache, logits | cache)}
    for length in lengths:
        found[f"prefill_{length}"] = Interface(_position(1, length) | cache, cache)
    return found


def verify(decode: Interface, length: int) -> Interface:
    """Return the interface of `verify_<length>`, which reads so many tokens where `decode` reads
    one."""
    _, (_, _, vocabulary_size) = decode.outputs["logits"]
    inputs: Tensors = {"tokens": ("int32", (1, length))}
    if "source_length" not in decode.inputs:
        inputs["input_pos"] = ("int32", (length,))
    logits: Tensors = {"logits": ("float32", (1, length, vocabulary_size))}
    return Interface(decode.inputs | inputs, decode.outputs | logits)


def causal_rows(config: TransformerConfig, context: int, rows: int) -> Interface:
    """Return the interface of `decode_<rows>`."""
    one = _cache("kv_cache", config, config.num_layers, 1, context)
    caches = {f"{name}_{row}": tensor for name, tensor in one.items() for row in range(rows)}
    inputs: Tensors = {"tokens": ("int32", (rows, 1)), "input_pos": ("int32", (rows,))}
    logits: Tensors = {"logits": ("float32", (rows, 1, config.vocabulary_size))}
    return Interface(inputs | caches, logits | caches)


def seq2seq(
    config: TransformerConfig, lengths: Iterable[int], beams: int | None
) -> dict[str, Interface]:
    """Return the interfaces of `encode_<length>` for each length, `prefill` and `decode`, and,
    unless `beams` is None, `decode_beams`."""
    longest = config.max_sequence_length
    memory: Tensors = {"memory": ("float32", (1, longest, config.hidden_dim))}
    cross = _cache("memory", config, config.num_decoder_layers, 1, longest)
    found = {
        f"encode_{length}": Interface({"encoder_token_ids": ("int32", (1, length))}, memory)
        for length in lengths
    }
    found["prefill"] = Interface(memory, cross)
    for name, rows in {"decode": 1, "decode_beams": beams}.items():
        if rows is not None:
            cache = _cache("kv_cache", config, config.num_decoder_layers, rows, longest)
            inputs: Tensors = {
                "tokens": ("int32", (rows, 1)),
                "input_pos": ("int32", (1,)),
                "source_length": ("int32", (1,)),
            }
            if name == "decode_beams":
                inputs["rows"] = ("int32", (rows,))
            logits: Tensors = {"logits": ("float32", (rows, 1, config.vocabulary_size))}
            found[name] = Interface(inputs | cache | cross, logits | cache)
    return found


def together(
    config: TransformerConfig, texts: int, beams: int, slots: int, lengths: Iterable[int]
) -> dict[str, Interface]:
    """Return the interfaces of `decode_<texts>`, or with several beams `decode_<texts>x<beams>`,
    and of `prefill_<texts>x<length>` for each length."""
    layers = config.num_decoder_layers
    cross = _cache("memory", config, layers, texts, slots)
    cache = _cache("kv_cache", config, layers, texts, slots * beams)
    inputs: Tensors = {
        "tokens": ("int32", (texts, beams)),
        "input_pos": ("int32", (texts,)),
        "source_length": ("int32", (texts,)),
        "slot": ("int32", (1,)),
        "visible": ("float32", (texts, beams, slots * beams)),
    }
    logits: Tensors = {"logits": ("float32", (texts, beams, config.vocabulary_size))}
    whole = (1, config.max_sequence_length, config.hidden_dim)
    read: Tensors = {"memory": ("float32", whole), "row": ("int32", (1,))}
    found = {f"prefill_{texts}x{length}": Interface(read | cross, cross) for length in lengths}
    name = f"decode_{texts}" if beams == 1 else f"decode_{texts}x{beams}"
    return found | {name: Interface(inputs | cache | cross, logits | cache)}


def _position(rows: int, length: int) -> Tensors:
    return {"tokens": ("int32", (rows, length)), "input_pos": ("int32", (length,))}


def _cache(kind: str, config: TransformerConfig, layers: int, rows: int, length: int) -> Tensors:
    shape = (rows, config.num_key_value_heads, length, config.head_dim)
    return {
        f"{kind}_{part}_{layer}": ("float32", shape) for layer in range(layers) for part in "kv"
    }


def _differences(place: str, found: Tensors, wanted: Tensors) -> list[str]:
    problems = [f"{place} {name} is missing" for name in wanted.keys() - found.keys()]
    problems += [f"{place} {name} is not expected" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if found[name] != wanted[name]:
            shown = [f"{kind} {list(shape)}" for kind, shape in (found[name], wanted[name])]
            problems.append(f"{place} {name} is {shown[0]}, expected {shown[1]}")
    return sorted(problems)
