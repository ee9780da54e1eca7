"""Keras models to bundles and back: configuration as JSON, weights as safetensors, no pickle."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, overload

import keras
import numpy as np
import safetensors
import safetensors.numpy

from tfx_transformer import bundle, files, json_files
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data.splits import SPLIT, Split
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.rounding import trained_format
from tfx_transformer.model_card import model_card
from tfx_transformer.model_card import update_config as update_config
from tfx_transformer.models.base import TransformerModel
from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM
from tfx_transformer.models.lora import check_base_dtype, check_plain, store_base
from tfx_transformer.models.regressor import Regressor
from tfx_transformer.models.tagger import Tagger
from tfx_transformer.models.tasks import CausalLM, Seq2SeqLM
from tfx_transformer.text.tokenizer import Tokenizer

# The files of a bundle that a Keras model is made of.
_OPENED = (bundle.CONFIG, bundle.WEIGHTS, *bundle.TOKENIZER_FILES)

_MODELS = (CausalLM, Seq2SeqLM, MaskedLM, Classifier, Embedder, Tagger, Regressor)
TASKS = {model.task: model for model in _MODELS}


def save(
    path: str | os.PathLike,
    model: keras.Model,
    tokenizer: Tokenizer | None = None,
    *,
    overwrite: bool = False,
    split: Split | None = None,
    **details: Any,
) -> None:
    """Writes a model and its tokenizer as a bundle.

    Args:
        path: folder to make, such as `saved_models/en_ja`.
        tokenizer: tokenizer of the model, if it reads text.
        overwrite: replace an existing bundle.
        split: the rows that it was trained on and those held out, so that a later training holds
            out the same ones.
        details: JSON values for `config.json`, such as scores or the settings of the run; "labels"
            are the names of the classes of a `Classifier`, or of the tags of a `Tagger`.

    Raises:
        InputError: the model has adapters, or kernels in int8 or 4 bits: see `merge_adapters`.
    """
    check_plain(model)
    with bundle.writing(path, overwrite) as folder:
        weights = {p: np.asarray(w.value, "float32") for p, w in parameters(model).items()}
        safetensors.numpy.save_file(weights, folder / bundle.WEIGHTS)
        if tokenizer is not None:
            bundle.write_tokenizer(folder, tokenizer)
        if split is not None:
            files.write(folder / SPLIT, split.to_json())
        config = _config(model, tokenizer, details)
        bundle.write_config(folder, config)
        files.write(folder / "README.md", model_card(Path(path).name, config, folder))


@bundle.consistent_read
def is_saved(
    path: str | os.PathLike,
    model: keras.Model,
    tokenizer: Tokenizer | None = None,
    **details: Any,
) -> bool:
    """Return True if `save` has written this very model to a bundle; later additions do not count.

    Args:
        path, model, tokenizer, details: the arguments of `save`.
    """
    path = Path(path)
    try:
        bundle.verify(path)
        config = bundle.read_config(path)
        ours = json.loads(json.dumps(_config(model, tokenizer, details)))
        if any(config.get(name) != value for name, value in ours.items()):
            return False
        if tokenizer is not None:
            theirs = bundle.read_tokenizer(path)
            if theirs.to_json() != tokenizer.to_json():
                return False
            if theirs.chat_template != tokenizer.chat_template:
                return False
            if _tools(theirs) != _tools(tokenizer):
                return False
        with _reading(path / bundle.WEIGHTS):
            file = safetensors.safe_open(path / bundle.WEIGHTS, framework="numpy")
            variables = parameters(model)
            return set(file.keys()) == variables.keys() and all(
                file.get_tensor(name).tobytes() == np.asarray(w.value, "float32").tobytes()
                for name, w in variables.items()
            )
    except InputError:
        return False


def _config(
    model: keras.Model, tokenizer: Tokenizer | None, details: Mapping[str, Any]
) -> dict[str, Any]:
    """The `config.json` of a model."""
    return {
        "format": bundle.FORMAT,
        "task": model.task,
        "parameters": sum(math.prod(w.shape) for w in parameters(model).values()),
        "architecture": model.config.to_dict(),
        "chat": tokenizer is not None and tokenizer.chat_template is not None,
        "versions": _versions(),
        **({"tools": list(tokenizer.tools.parameters)} if tokenizer and tokenizer.tools else {}),
        **details,
    }


def _tools(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    return [] if tokenizer.tools is None else tokenizer.tools.declarations


@overload
def load(
    path: str | os.PathLike, dtype: str = "float32", *, task: Literal["causal"]
) -> tuple[CausalLM, Tokenizer]: ...


@overload
def load(
    path: str | os.PathLike, dtype: str = "float32", *, task: Literal["seq2seq"]
) -> tuple[Seq2SeqLM, Tokenizer]: ...


@overload
def load(
    path: str | os.PathLike, dtype: str = "float32", *, task: Literal["masked"]
) -> tuple[MaskedLM, Tokenizer]: ...


@overload
def load(
    path: str | os.PathLike, dtype: str = "float32", *, task: Literal["classification"]
) -> tuple[Classifier, Tokenizer | Any]: ...


@overload
def load(
    path: str | os.PathLike, dtype: str = "float32", *, task: Literal["embedding"]
) -> tuple[Embedder, Tokenizer]: ...


@overload
def load(
    path: str | os.PathLike, dtype: str = "float32", *, task: Literal["tagging"]
) -> tuple[Tagger, Tokenizer]: ...


@overload
def load(
    path: str | os.PathLike, dtype: str = "float32", *, task: Literal["regression"]
) -> tuple[Regressor, Tokenizer]: ...


@overload
def load(
    path: str | os.PathLike,
    dtype: str = "float32",
    task: str | None = None,
    base_dtype: str | None = None,
) -> tuple[TransformerModel, Tokenizer | Any]: ...


@bundle.consistent_read
def load(
    path: str | os.PathLike,
    dtype: str = "float32",
    task: str | None = None,
    base_dtype: str | None = None,
) -> tuple[TransformerModel, Tokenizer | Any]:
    """Return the model of a bundle, verified, and its tokenizer if it reads text.

    Args:
        dtype: policy of the model, such as "mixed_bfloat16".
        task: the task that the bundle must have, such as "causal" or "seq2seq".
        base_dtype: form of the kernels under adapters: see `from_pretrained`.

    Returns: the model, whose class type checkers know if `task` is given; its tokenizer, None if
        the model reads images.

    Raises:
        InputError: the bundle is damaged, its weights do not fit its configuration, or `base_dtype`
            is not known.
    """
    check_base_dtype("load", base_dtype)
    path = Path(path)
    bundle.verify(path, _OPENED)
    config = bundle.read_config(path)
    if config.get("task") not in TASKS:
        raise InputError(
            f"{path}: task {config.get('task')!r} is not known; known are {', '.join(TASKS)}."
        )
    if task not in (None, config["task"]):
        raise InputError(
            f"{path}: its task is {config['task']!r}.\n  Expected a bundle of task {task!r}."
        )
    architecture = TransformerConfig.from_dict(config["architecture"])
    if architecture.image_size and not TASKS[config["task"]].may_read_images:
        raise InputError(f"{path}: a model of task {config['task']!r} reads no images.")
    weights = path / bundle.WEIGHTS
    shapes = read_shapes(weights)
    _check_sizes(path, shapes, architecture, TASKS[config["task"]])
    tokenizer = None
    if not architecture.image_size:
        tokenizer = bundle.read_tokenizer(path, architecture.vocabulary_size)
    with _reading(weights):
        file = safetensors.safe_open(weights, framework="numpy")
    if base_dtype is not None:
        with keras.StatelessScope():  # Keras initializes the variables when it ends
            model = TASKS[config["task"]](architecture, dtype=dtype)
            _check_shapes(model, shapes, str(weights))
            for name, variable in parameters(model).items():
                variable._initializer = _reader(file, name, weights)
            store_base(model, base_dtype)
        return model, tokenizer
    model = TASKS[config["task"]](architecture, dtype=dtype)
    _check_shapes(model, shapes, str(weights))
    for name, variable in parameters(model).items():
        with _reading(weights):
            values = file.get_tensor(name)
        variable.assign(values)
    model.trained_format = trained_format(config)
    return model, tokenizer


def _reader(file: Any, name: str, path: Path) -> Callable[..., np.ndarray]:
    """Return an initializer that reads a tensor when Keras needs its numbers."""

    def read(shape, dtype=None):
        with _reading(path):
            return file.get_tensor(name).astype(dtype, copy=False)

    return read


def read_shapes(file: str | os.PathLike) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a file of weights, without reading their numbers.

    Raises:
        InputError: it is not a safetensors file.
    """
    with _reading(file), safetensors.safe_open(file, framework="numpy") as opened:
        with open(file, "rb") as stream:  # safetensors would take the last of two equal names
            length = int.from_bytes(stream.read(8), "little")
            json_files.parse(stream.read(length).decode(), file, unique=True)
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.offset_keys()}


def parameters(model: keras.Model) -> dict[str, keras.Variable]:
    """Every weight of a model by its path, frozen ones too, but not the state of dropout."""
    return {w.path: w for w in model.weights if "seed_generator" not in w.path}


def _check_sizes(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    architecture: TransformerConfig,
    cls: type[TransformerModel],
) -> None:
    """Refuses an architecture of another size than the weights, before anything is built: a wrong
    configuration allocates nothing."""
    shape = (architecture.vocabulary_size, architecture.embedding_dim)
    if not architecture.image_size and shapes.get("embedding/embeddings") != shape:
        raise InputError(f"{path}: {bundle.WEIGHTS} holds no embedding table of shape {shape}.")
    check_size(architecture, cls, sum(map(math.prod, shapes.values())), path)


def check_size(
    architecture: TransformerConfig, cls: type[TransformerModel], held: int, path: Path
) -> None:
    """Refuses an architecture that needs more numbers than a file of weights holds.

    Args:
        cls: class of the model that is to be built.
        held: how many numbers the file holds.
        path: folder of the file.

    Raises:
        InputError: the file holds too few; the message names both counts.
    """
    least = cls.fewest_parameters(architecture)
    if held < least:
        raise InputError(
            f"{path}: {bundle.WEIGHTS} holds {held:,} numbers; "
            f"the architecture in {bundle.CONFIG} needs {least:,} or more."
        )


def _check_shapes(model: keras.Model, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Refuses other weights than those of the model, before any is read."""
    variables = parameters(model)
    problems = [f"{name} is missing" for name in sorted(variables.keys() - shapes.keys())]
    problems += [f"{name} is not part of it" for name in sorted(shapes.keys() - variables.keys())]
    problems += [
        f"{name} has shape {shapes[name]}, expected {tuple(variable.shape)}"
        for name, variable in variables.items()
        if name in shapes and shapes[name] != tuple(variable.shape)
    ]
    if problems:
        raise InputError(f"{source} does not fit the model:\n  " + "\n  ".join(problems[:20]))


@contextlib.contextmanager
def _reading(file: str | os.PathLike) -> Iterator[None]:
    """Turn errors of safetensors into an InputError that names the file."""
    try:
        yield
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        TypeError,  # these two for dtypes that NumPy has no name for
        AttributeError,
    ) as error:
        raise InputError(f"{file} cannot be read as safetensors: {error}") from error


def _versions() -> dict[str, str]:
    versions = {}
    for package in ("tfx-transformer", "keras", "tensorflow", "tiktoken"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
