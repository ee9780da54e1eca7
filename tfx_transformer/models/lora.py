"""Adapters: fine-tuning a frozen model through small matrices beside its kernels."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import safetensors
import safetensors.numpy
from keras import ops

from tfx_transformer import files, json_files
from tfx_transformer.errors import InputError
from tfx_transformer.layers import Linear, TokenEmbedding, four_bit
from tfx_transformer.layers.linear import replace_variable

# A file of adapters has at most this many bytes, and four numbers for each number of the model.
_SMALL_FILE = 1 << 20

# The forms in which a frozen base can be stored.
BASE_DTYPES = ("bfloat16", "int8", "nf4")

# The linear layers of a block; only gated feed-forward layers have a "gate".
TARGETS = ("query", "key", "value", "output_projection", "expand", "gate", "contract")


def add_adapters(
    model: keras.Model,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Iterable[str] = TARGETS,
    kind: Literal["lora", "dora"] = "lora",
    base_dtype: Literal["bfloat16", "int8", "nf4"] | None = None,
) -> None:
    """Freezes a model and adds adapters to train, which change nothing yet; compile it afterwards.
    The read-out of a `Classifier` is new to every task, so it is trained in full.

    Args:
        model: any model of `models.tasks` or `models.encoders`.
        rank: inner width of an adapter.
        alpha: an adapter counts alpha / rank times: see `Linear`.
        targets: names of the layers that get one.
        kind: "lora" (Hu et al. 2021) or "dora" (Liu et al. 2024).
        base_dtype: how the model keeps its kernels from now on: as "bfloat16", as "int8" with a
            scale per column, or as "nf4", 4 bits with a scale per 64 weights; embedding tables are
            bfloat16 then. None: as they are, to the bit.

    Raises:
        InputError: an argument is out of range, a target does not exist, the model has adapters
            already, or its kernels are stored in another form.
    """
    targets = sorted(set(targets))
    _check_settings("add_adapters", kind, rank, alpha, targets, base_dtype)
    if _adapted_layers(model):
        raise InputError(
            "add_adapters: the model has adapters already.\n"
            "  `merge_adapters` makes a plain model of it, which can get new ones."
        )
    stored = next((one.stored_dtype for one in _linears(model) if one.kernel_scale is not None), "")
    if stored and base_dtype not in (None, stored):
        raise InputError(
            f"add_adapters: base_dtype is {base_dtype!r}, but the kernels are stored as {stored}.\n"
            f"  Expected {stored}, or None, which keeps them."
        )
    names = {layer.name for layer in _linears(model)}
    unknown = [name for name in targets if name not in names and name not in TARGETS]
    if unknown or not names.intersection(targets):
        raise InputError(
            f"add_adapters: there is no layer {' or '.join(map(repr, unknown or targets))}.\n"
            f"  Targets of this model: {', '.join(sorted(names))}."
        )
    for weight in model.weights:
        weight.trainable = weight.path.startswith(model.read_out)
    if base_dtype is not None:
        store_base(model, base_dtype)
    for layer in _linears(model):
        if layer.name in targets:
            layer.dora = kind == "dora"
            layer.enable_lora(rank, lora_alpha=alpha)
    # The functions that Keras has traced so far have no adapters.
    model.train_function = model.test_function = model.predict_function = None


def has_adapters(model: keras.Model) -> bool:
    """Return True if `add_adapters` gave the model any."""
    return bool(_adapted_layers(model))


def settings_of(model: keras.Model) -> dict[str, Any] | None:
    """The arguments that gave a model its adapters, for `add_adapters`; None without any."""
    layers = _adapted_layers(model)
    if not layers:
        return None
    stored = _linears(model)[0].stored_dtype
    base_dtype = stored if stored in BASE_DTYPES else None
    return {**_settings(layers), "base_dtype": base_dtype}


def trainable_summary(model: keras.Model) -> dict[str, int]:
    """Numbers of parameters that are trained and frozen, and the bytes that they take:
    "trained", "trained_bytes", "frozen", "frozen_bytes". The scales of kernels in 4 bits count as
    bytes, not as parameters."""
    summary = {}
    groups = {"trained": model.trainable_weights, "frozen": model.non_trainable_weights}
    for name, weights in groups.items():
        sizes = [(math.prod(w.shape), np.dtype(w.dtype).itemsize) for w in weights]
        summary[name] = sum(size for size, _ in sizes)
        summary[f"{name}_bytes"] = sum(size * itemsize for size, itemsize in sizes)
    for layer in _linears(model):
        if layer.stored_dtype == "nf4":
            held = (layer._kernel, layer.kernel_scale, layer.kernel_range)
            summary["frozen"] += math.prod(layer.kernel_shape)
            summary["frozen"] -= sum(math.prod(variable.shape) for variable in held)
    return summary


def merge_adapters(model: keras.Model) -> keras.Model:
    """Return a plain float32 model that gives the answers of an adapted one: adapters are merged
    into their kernels (see `Linear`), and weights stored in fewer bits become float32."""
    plain = type(model)(model.config, dtype="float32")
    weights = {weight.path: weight for weight in model.weights}
    linears = {f"{layer.path}/kernel": layer for layer in _linears(model)}
    for weight in plain.trainable_weights:
        path = weight.path
        value = linears[path].kernel if path in linears else weights[path]
        weight.assign(ops.cast(value, "float32"))
    return plain


def check_plain(model: keras.Model) -> None:
    """Raise if a bundle cannot hold the weights of a model.

    Raises:
        InputError: the model has adapters, or kernels in int8 or 4 bits.
    """
    if any(layer.adapter_weights or layer.kernel_scale is not None for layer in _linears(model)):
        raise InputError(
            "save: the model has adapters, or kernels in int8 or 4 bits.\n"
            "  Save what `merge_adapters` returns, a plain model with the same answers."
        )


def save_adapters(path: str | os.PathLike, model: keras.Model) -> None:
    """Writes the adapters of a model and its read-out, if that is trained too, without the rest of
    the model, as one safetensors file.

    A tensor is named by its path, such as "decoder/block_0/attention/query/lora_kernel_a". The
    metadata hold the settings, the model they belong to, and a checksum of everything.

    Raises:
        InputError: there are no adapters, or the file cannot be written.
    """
    path = Path(path)
    layers = _adapted_layers(model)
    if not layers:
        raise InputError(f"{path}: the model has no adapters to save.\n  See `add_adapters`.")
    weights = [w for layer in layers for w in layer.adapter_weights] + _read_out(model)
    tensors = {w.path: ops.convert_to_numpy(w) for w in weights}
    facts = json.dumps(_settings(layers) | _base(model))
    metadata = {"adapters": facts, "sha256": _digest(facts, tensors)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, safetensors.numpy.save(tensors, metadata))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def load_adapters(path: str | os.PathLike, model: keras.Model) -> None:
    """Gives a model the adapters of a file; one that has none gets them by `add_adapters`.

    Raises:
        InputError: the file is damaged or belongs to another model; the message names what does not
            fit, and the model stays as it was.
    """
    facts, tensors = _read(Path(path), _SMALL_FILE + 16 * model.count_params())
    settings = {name: facts.get(name) for name in ("kind", "rank", "alpha", "targets")}
    _check_settings(str(path), **settings)
    # Compared before anything is built: a hostile rank allocates nothing.
    adapted = _adapted_layers(model)
    expected = _base(model) | (_settings(adapted) if adapted else settings)
    expected |= _adapter_shapes(model, expected)
    problems = list(_differences(expected, facts | {k: t.shape for k, t in tensors.items()}))
    if problems:
        raise InputError(f"{path} does not fit the model:\n  " + "\n  ".join(problems[:20]))
    if not adapted:
        add_adapters(model, **settings)
    adapters = [w for layer in _adapted_layers(model) for w in layer.adapter_weights]
    for weight in adapters + _read_out(model):
        weight.assign(tensors[weight.path])


def _linears(model: keras.Model) -> list[Linear]:
    """Return the linear layers that may be frozen: all but the read-out, which is trained."""
    linears = [layer for layer in model._flatten_layers() if isinstance(layer, Linear)]
    return [layer for layer in linears if not f"{layer.path}/".startswith(model.read_out)]


def _adapted_layers(model: keras.Model) -> list[Linear]:
    return [layer for layer in _linears(model) if layer.adapter_weights]


def _read_out(model: keras.Model) -> list[keras.Variable]:
    return [w for w in model.weights if w.path.startswith(model.read_out)]


def store_base(model: keras.Model, dtype: str) -> None:
    """Stores the kernels of a model as `dtype` and its embedding tables as bfloat16; kernels of its
    read-out stay. In a `keras.StatelessScope` weights are read and stored one after the other, so
    memory holds one of them at a time in its own dtype.

    Args:
        dtype: "bfloat16", "int8" or "nf4": see `Linear.store_kernel`.
    """
    for layer in _linears(model):
        if layer.stored_dtype != dtype:
            layer.store_kernel(dtype)
    for layer in model._flatten_layers():
        if isinstance(layer, TokenEmbedding):
            tables = ["_embeddings"] if layer.tie_weights else ["_embeddings", "reverse_embeddings"]
            for table in tables:
                replace_variable(layer, table, ops.cast(getattr(layer, table), "bfloat16"))


def base_bytes(model: keras.Model, dtype: str | None) -> int:
    """Return the bytes of the weights of a plain model after `store_base`; nothing is stored.

    Args:
        model: a model, which may have been made without memory.
        dtype: as for `store_base`; None: the weights stay as they are.
    """
    forms: dict[str, Callable[[int, int], int]] = {
        "bfloat16": lambda inputs, units: 2 * inputs * units,
        "int8": lambda inputs, units: inputs * units + 4 * units,
        "nf4": four_bit.stored_bytes,
    }
    sizes = {w.path: math.prod(w.shape) * np.dtype(w.dtype).itemsize for w in model.weights}
    if dtype is None:
        return sum(sizes.values())
    for layer in _linears(model):
        sizes[f"{layer.path}/kernel"] = forms[dtype](*layer.kernel_shape)
    for layer in model._flatten_layers():
        if isinstance(layer, TokenEmbedding):
            for weight in layer.weights:
                sizes[weight.path] = 2 * math.prod(weight.shape)
    return sum(sizes.values())


def check_base_dtype(source: str, base_dtype: str | None) -> None:
    """Raise if a base cannot be stored in this form.

    Args:
        source: the function that was called.
        base_dtype: one of `BASE_DTYPES`, or None.

    Raises:
        InputError: `base_dtype` is something else.
    """
    if base_dtype not in (None, *BASE_DTYPES):
        choices = f"{', '.join(BASE_DTYPES[:-1])} or {BASE_DTYPES[-1]}"
        raise InputError(f"{source}: base_dtype is {base_dtype!r}.\n  Expected {choices}.")


def _check_settings(source, kind, rank, alpha, targets, base_dtype=None) -> None:
    is_number = type(alpha) in (int, float) and 0 < alpha < 1e9
    is_names = type(targets) is list and targets and all(type(name) is str for name in targets)
    for name, value, valid, expected in (
        ("kind", kind, kind in ("lora", "dora"), "'lora' or 'dora'"),
        ("rank", rank, type(rank) is int and rank >= 1, "a whole number from 1"),
        ("alpha", alpha, is_number, "a number between 0 and 1e9"),
        ("targets", targets, is_names, "names of layers"),
    ):
        if not valid:
            raise InputError(f"{source}: {name} is {value!r}.\n  Expected {expected}.")
    check_base_dtype(source, base_dtype)


def _settings(layers: list[Linear]) -> dict[str, Any]:
    """Return the arguments of `add_adapters`, which all layers share."""
    return {
        "kind": "dora" if layers[0].dora else "lora",
        "rank": layers[0].lora_rank,
        "alpha": layers[0].lora_alpha,
        "targets": sorted({layer.name for layer in layers}),
    }


def _base(model: keras.Model) -> dict[str, Any]:
    """Return the facts that are equal in two models if one can take the adapters of the other."""
    only_training = ("dropout", "stochastic_depth")
    architecture = {k: v for k, v in model.config.to_dict().items() if k not in only_training}
    return {"model": type(model).__name__, **architecture}


def _adapter_shapes(model: keras.Model, settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes, rank = {w.path: tuple(w.shape) for w in _read_out(model)}, settings["rank"]
    for layer in _linears(model):
        if layer.name in settings["targets"]:
            shapes[f"{layer.path}/lora_kernel_a"] = (layer.input_spec.axes[-1], rank)
            shapes[f"{layer.path}/lora_kernel_b"] = (rank, layer.units)
            if settings["kind"] == "dora":
                shapes[f"{layer.path}/lora_magnitude"] = (layer.units,)
    return shapes


def _differences(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for name in expected | found:
        if name not in found:
            yield f"{name} is missing"
        elif name not in expected:
            yield f"{name} is not part of it"
        elif found[name] != expected[name]:
            yield f"{name} is {found[name]}, expected {expected[name]}"


def _read(path: Path, most_bytes: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the facts and tensors that `save_adapters` wrote, from at most `most_bytes`."""
    try:
        if path.stat().st_size > most_bytes:
            raise InputError(
                f"{path} is larger than any adapters of this model.\n"
                f"  Expected {most_bytes:,} bytes at most."
            )
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
        text = metadata.get("adapters", "null")
        facts = json_files.parse(text, path)
    except InputError:
        raise
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        RecursionError,
        TypeError,  # these two for dtypes that NumPy has no name for
        AttributeError,
    ) as error:
        raise InputError(f"{path} cannot be read as adapters: {error}") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path} holds no adapters.\n  Expected a file of `save_adapters`.")
    if metadata.get("sha256") != _digest(text, tensors):
        raise InputError(f"{path} is damaged: its checksum differs.\n  Copy the file again.")
    return facts, tensors


def _digest(facts: str, tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
