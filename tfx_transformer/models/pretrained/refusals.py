"""Errors for folders that cannot be read as a checkpoint: they name its files and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError

_CONVERT = (
    "Expected model.safetensors. Hugging Face hosts it for most models; "
    "save_pretrained of transformers writes it."
)
# Pattern of a file's name, its kind, a remedy; the message names the first that matches.
_FORMS = (
    (
        "*.gguf",
        "weights for llama.cpp (GGUF), most of them quantized",
        "Take the checkpoint that it was made from; its model card names it.",
    ),
    (
        "*.onnx",
        "a graph for ONNX Runtime, not weights by name",
        "Take the checkpoint that it was exported from; its model card names it.",
    ),
    ("tf_model*.h5", "weights of TensorFlow", _CONVERT),
    ("*.h5", "weights of Keras or TensorFlow", _CONVERT),
    ("*.ckpt.index", "a checkpoint of TensorFlow 1", _CONVERT),
    ("model.ckpt*", "a checkpoint of TensorFlow 1", _CONVERT),
    ("saved_model.pb", "a SavedModel, a graph without the names of its weights", _CONVERT),
    ("*.msgpack", "weights of Flax", _CONVERT),
    ("rust_model.ot", "weights of rust-bert", _CONVERT),
    *(
        (pattern, "a pickle: a program that would be run to read it", _CONVERT)
        for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
    ),
    (
        "consolidated*.safetensors",
        "weights by the names of the publisher's own program",
        "Take the copy of this model for transformers.",
    ),
)


def other_form(names: Iterable[str]) -> tuple[str, str, str] | None:
    """Return the first file name of weights in a form that is not read here, its kind and a remedy;
    None without such a file."""
    names = sorted(names)
    for pattern, what, remedy in _FORMS:
        for name in names:
            if fnmatch(name, pattern):
                return name, what, remedy
    return None


def no_weights(where: Any, names: Iterable[str]) -> InputError:
    """Return the error for a folder without model.safetensors, by the names of its files."""
    found = other_form(names)
    if found is None:
        return InputError(
            f"{where} holds no weights.\n  Expected model.safetensors, or "
            "model.safetensors.index.json and the shards it names."
        )
    name, what, remedy = found
    return InputError(f"{where} holds its weights as {name} only, {what}.\n  {remedy}")


def refuse_other_form(path: Path) -> None:
    """Raise if a file, or a folder without config.json, has weights in another form.

    Raises:
        InputError: it has; the message names the file, its kind and a remedy.
    """
    names = [path.name] if path.is_file() else []
    if path.is_dir() and not (path / "config.json").is_file():
        names = [file.name for file in path.iterdir()]
    found = other_form(names)
    if found is not None:
        name, what, remedy = found
        raise InputError(f"{path}: {name} is {what}, not a checkpoint.\n  {remedy}")
    if path.suffix == ".safetensors" and path.is_file():
        raise InputError(f"{path} is a file of a checkpoint.\n  Pass its folder, {path.parent}.")


def refuse_quantized(config: Mapping[str, Any], where: Any) -> None:
    """Raise if the weights were quantized for one program.

    Raises:
        InputError: they were, by config.json; the message names the method.
    """
    settings = config.get("quantization_config") or config.get("compression_config")
    if not settings:
        return
    method = "unnamed"
    if isinstance(settings, Mapping):
        method = str(settings.get("quant_method") or settings.get("quant_algo") or method)
        if method == "bitsandbytes":
            method += " (4 bits)" if settings.get("load_in_4bit") else " (8 bits)"
    raise InputError(
        f"{where}: the weights are quantized, by the method {method!r} (quantization_config in "
        "config.json).\n  Take the checkpoint that it was made of, in float32, float16 or "
        "bfloat16; its model card names it.\n  Exports are quantized here with --quantize int8."
    )
