"""The modules of sentence-transformers around an encoder, read and written.

`modules.json` lists the parts: Transformer, Pooling, any number of Dense, Normalize. Reimers &
Gurevych (2019); https://sbert.net/docs/package_reference/sentence_transformer/modules.html
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tfx_transformer import files
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.json_files import MAX_BYTES, parse, read_object
from tfx_transformer.models.pretrained.family import Tensor

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
LENGTH = "sentence_bert_config.json"
# Prefix of the names of Dense tensors among those of a checkpoint.
STEM = "sentence."

# Names of poolings in release 6 -> ours; in earlier releases -> in release 6.
_POOLINGS = {
    "mean": "mean",
    "cls": "first",
    "lasttoken": "last",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_length",
    "weightedmean": "weighted_mean",
}
_OLD_POOLINGS = {
    "mean_tokens": "mean",
    "cls_token": "cls",
    "lasttoken": "lasttoken",
    "max_tokens": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean",
}
# Classes of torch.nn -> our names of activations.
_ACTIVATIONS = {
    "linear.Identity": "linear",
    "activation.Tanh": "tanh",
    "activation.ReLU": "relu",
    "activation.GELU": "gelu",
    "activation.SiLU": "silu",
    "activation.Sigmoid": "sigmoid",
}
_TORCH = "torch.nn.modules."
_TYPES = "sentence_transformers.models."


@dataclasses.dataclass(frozen=True)
class Sentence:
    """The parts around an encoder.

    Attributes:
        transformer: folder of the encoder's own files.
        dense: folders of the projections after the pooling, in their order.
        fields: fields of `TransformerConfig`.
        max_length: most tokens that it reads; None: the encoder's maximum.
    """

    transformer: Path
    dense: tuple[Path, ...]
    fields: dict[str, Any]
    max_length: int | None


def read_sentence(folder: Path) -> Sentence | None:
    """Return the parts that a folder lists; None if it is not the folder of an embedder.

    Raises:
        InputError: a part, its order or one of its settings is unknown; the message names it.
    """
    settings = _object(folder / SETTINGS)
    kind = settings.get("model_type", "SentenceTransformer")
    if kind == "CrossEncoder" or not (folder / MODULES).is_file():
        return None
    if kind != "SentenceTransformer":
        raise InputError(
            f"{folder / SETTINGS}: it is a {kind}.\n"
            "  Expected a SentenceTransformer, which makes one vector of a text, or a CrossEncoder."
        )
    kinds, paths = zip(*_modules(folder / MODULES), strict=True)
    dense = tuple(p for name, p in zip(kinds, paths, strict=True) if name == "Dense")
    normalize = kinds[-1] == "Normalize"
    expected = ("Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * normalize)
    if kinds != expected:
        raise InputError(
            f"{folder / MODULES}: the modules are {', '.join(kinds)}.\n"
            "  Expected Transformer, Pooling, then any number of Dense, then Normalize or not."
        )
    fields = {
        "pooling": _pooling(paths[1] / "config.json"),
        "projections": tuple(_projection(path / "config.json") for path in dense),
        "normalize": normalize,
        **_prompts(folder / SETTINGS, settings),
    }
    if fields["prompts"] and not _object(paths[1] / "config.json").get("include_prompt", True):
        raise InputError(
            f"{paths[1] / 'config.json'}: include_prompt is false, so a prompt is read but not "
            "pooled.\n  Only models that pool all tokens can be read."
        )
    longest = _object(paths[0] / LENGTH).get("max_seq_length")
    whole = isinstance(longest, int) and not isinstance(longest, bool) and longest > 0
    return Sentence(paths[0], dense, fields, longest if whole else None)


def is_cross_encoder(folder: Path, config: Mapping[str, Any]) -> bool:
    """Return True if sentence-transformers saved a folder as a scorer of pairs."""
    named = _object(folder / SETTINGS).get("model_type") == "CrossEncoder"
    return named or "sentence_transformers" in config or _OLD_SCORER in config


# Entry of a cross-encoder's config.json before release 4.
_OLD_SCORER = "sbert_ce_default_activation_function"


def projections_of(fields: Mapping[str, Any]) -> list[Tensor]:
    """Return the places of the projections' variables among a checkpoint's tensors."""
    return [
        Tensor(f"projection_{i}/{ours}", f"{STEM}{i}.linear.{theirs}", change)
        for i, projection in enumerate(fields.get("projections", ()))
        for ours, theirs, change in (
            ("kernel", "weight", "transposed"),
            *([("bias", "bias", "same")] if projection["use_bias"] else []),
        )
    ]


def write_sentence(
    folder: Path, config: TransformerConfig, tensors: Mapping[str, np.ndarray]
) -> None:
    """Write modules.json and the modules that it lists, except the encoder.

    Args:
        folder: an existing folder.
        config: configuration of the embedder.
        tensors: tensors of the projections, by the names of `projections_of`.
    """
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    parts += [(f"{i + 2}_Dense", "Dense") for i in range(len(config.projections))]
    parts += [(f"{len(parts)}_Normalize", "Normalize")] * config.normalize
    for path, _ in parts[1:]:
        (folder / path).mkdir()
    pooling = {"word_embedding_dimension": config.hidden_dim, "include_prompt": True}
    mode = next(theirs for theirs, ours in _POOLINGS.items() if ours == config.pooling)
    pooling |= {f"pooling_mode_{old}": new == mode for old, new in _OLD_POOLINGS.items()}
    _write(folder / "1_Pooling" / "config.json", pooling)
    width = config.hidden_dim
    for index, projection in enumerate(config.projections):
        named = next(n for n, ours in _ACTIVATIONS.items() if ours == projection["activation"])
        dense = folder / f"{index + 2}_Dense"
        values = {"in_features": width, "out_features": projection["width"]}
        values |= {"bias": projection["use_bias"], "activation_function": _TORCH + named}
        _write(dense / "config.json", values)
        stem = f"{STEM}{index}."
        own = {n.removeprefix(stem): a for n, a in tensors.items() if n.startswith(stem)}
        safetensors.numpy.save_file(own, dense / "model.safetensors", {"format": "pt"})
        width = projection["width"]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _TYPES + kind}
        for index, (path, kind) in enumerate(parts)
    ]
    _write(folder / MODULES, modules)
    length = {"max_seq_length": config.max_sequence_length, "do_lower_case": False}
    _write(folder / LENGTH, length)
    prompts = {"prompts": config.prompts, "default_prompt_name": config.default_prompt}
    _write(folder / SETTINGS, prompts | {"similarity_fn_name": "cosine"})


def _modules(file: Path) -> Iterator[tuple[str, Path]]:
    """Yield kind and folder of each module, in the order in which they run."""
    if file.stat().st_size > MAX_BYTES:
        raise InputError(f"{file} is larger than any list of modules.")
    try:
        listed = parse(file.read_text(encoding="utf-8"), file)
        listed = sorted(listed, key=lambda module: module["idx"])
        modules = [(str(m["type"]), str(m["path"])) for m in listed]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is not a list of modules: {error}.") from error
    if len(modules) < 2:
        raise InputError(
            f"{file} lists {len(modules)} modules.\n  Expected Transformer, Pooling and others."
        )
    for kind, path in modules:
        if not kind.startswith("sentence_transformers.") or not _inside(file.parent, path):
            raise InputError(
                f"{file}: the module {kind} is not one of sentence-transformers: it would run code "
                "of the checkpoint.\n  Choose a model without code of its own."
            )
        name = kind.rpartition(".")[2]
        if name == "Dropout":
            continue  # in training only
        if name not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise InputError(
                f"{file}: the module {name} is not known.\n"
                "  Known are Transformer, Pooling, Dense and Normalize."
            )
        yield name, file.parent / path


def _inside(folder: Path, path: str) -> bool:
    return (folder / path).resolve().is_relative_to(folder.resolve())


def _pooling(file: Path) -> str:
    values = read_object(file)
    modes = values.get("pooling_mode")
    if modes is None:
        old = {name.removeprefix("pooling_mode_"): v for name, v in values.items()}
        unknown = [n for n, v in old.items() if v is True and f"pooling_mode_{n}" in values]
        modes = [_OLD_POOLINGS.get(name, name) for name in unknown] or "mean"
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, Sequence) or len(modes) != 1 or modes[0] not in _POOLINGS:
        shown = ", ".join(map(str, modes)) if isinstance(modes, Sequence) else repr(modes)
        raise InputError(
            f"{file}: pools by {shown}.\n  Expected one of {', '.join(_POOLINGS)}, alone."
        )
    return _POOLINGS[modes[0]]


def _projection(file: Path) -> dict[str, Any]:
    """Return the row of `TransformerConfig.projections` for the config.json of a Dense."""
    values = read_object(file)
    where = (values.get("module_input_name"), values.get("module_output_name"))
    if values.get("use_residual") or not set(where) <= {None, "sentence_embedding"}:
        raise InputError(
            f"{file}: the Dense reads {where[0]!r}, or adds what it reads to what it makes.\n"
            "  Expected one that projects the vector of the text."
        )
    name = values.get("activation_function", _TORCH + "activation.Tanh")
    activation = _ACTIVATIONS.get(str(name).removeprefix(_TORCH))
    if name is None:
        activation = "linear"
    if activation is None:
        raise InputError(
            f"{file}: the activation is {name!r}.\n"
            f"  Expected one of {', '.join(_TORCH + known for known in _ACTIVATIONS)}."
        )
    width, bias = values.get("out_features"), values.get("bias", True)
    return {"width": width, "activation": activation, "use_bias": bias}


def _prompts(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, Mapping):
        raise InputError(f"{file}: prompts is {prompts!r}.\n  Expected an object of texts.")
    if default is not None and default not in prompts:
        raise InputError(
            f"{file}: default_prompt_name is {default!r}.\n"
            f"  Expected one of the prompts: {', '.join(map(str, prompts)) or 'there are none'}."
        )
    if not any(prompts.values()):
        return {"prompts": {}, "default_prompt": None}
    # An empty prompt is kept: it embeds a text without the default prompt.
    return {"prompts": dict(prompts), "default_prompt": default if prompts.get(default) else None}


def _object(file: Path) -> dict[str, Any]:
    return read_object(file) if file.is_file() else {}


def _write(file: Path, values: Any) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    files.write(file, text)
