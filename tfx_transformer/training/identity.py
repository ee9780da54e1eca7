"""The identity of a training: its settings, files and model."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError

if TYPE_CHECKING:
    import keras

# Files that change with the content of their folder.
_SUMMARIES = ("SHA256SUMS", "tokens.json")
# Settings that may change when a training goes on: names, time limits, examples, logs, exports.
_FREE = {"name", "overwrite", "minutes", "save_minutes", "sentence", "example", "log", "quantize"}

# The fields of `TransformerConfig` in version 0.1.
_FIRST_FIELDS = frozenset(
    """
    vocabulary_size num_layers num_heads hidden_dim intermediate_dim num_key_value_heads
    num_decoder_layers dropout max_sequence_length position norm norm_first norm_epsilon activation
    gated use_bias tie_embeddings scale_embedding rope_theta padding_id start_id end_id
    embedding_norm stochastic_depth num_classes multi_label pooling image_size patch_size
    conv_layers ngram_buckets head_dim qkv_bias feed_forward_bias query_key_norm attention_scale
    sliding_window global_layers local_rope_theta rope_scaling relative_buckets relative_distance
    sandwich_norm logit_scale logits_bias num_segments class_tokens pooler norm_pooled
    initializer_range
    """.split()  # noqa: SIM905
)


class Identity:
    """All that a training depends on, to compare with the run that was interrupted.

    Args:
        settings: settings of the run.
        recipe: the function whose arguments they are; see `Run`.

    Attributes:
        settings: the settings that decide the result of the training, as JSON values.
    """

    def __init__(
        self, settings: Mapping[str, Any], recipe: Callable[..., Any] | None = None
    ) -> None:
        self.settings = _as_json(settings)
        self._defaults: dict[str, Any] = {}
        self._paths = {name for name, value in settings.items() if isinstance(value, os.PathLike)}
        if recipe is not None:
            parameters = inspect.signature(recipe).parameters
            self._defaults = _as_json({name: p.default for name, p in parameters.items()})
            hints = typing.get_type_hints(recipe)
            self._paths |= {name for name, hint in hints.items() if _is_path(hint)}

    def files(self, read: Iterable[str]) -> dict[str, str]:
        """Return the digest of each file and folder that was read or that a path setting names,
        alone or among several separated by commas. The digest of a file covers its bytes, that of
        a folder its names, sizes, and the bytes of `SHA256SUMS` of a bundle and of `tokens.json` of
        a folder of tokens; that of a missing path is "".

        Args:
            read: paths of what was read.
        """
        named = [value for name, value in self.settings.items() if name in self._paths and value]
        parts = [part.strip() for value in named for part in (value, *value.split(","))]
        paths = {_normal(path) for path in (*parts, *read) if path}
        return {path: _digest(Path(path)) for path in sorted(paths)}

    def changes(
        self,
        before: Mapping[str, Any],
        files: Mapping[str, str] | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Return the differences from an interrupted training, such as "--epochs was 3 and is 5".

        Args:
            before: content of its checkpoint, written by this version or an earlier one.
            files: digests from `files`, if they are known already.
            model: description from `model_of`, if it is known already.
        """
        old = before["settings"]
        found = []
        for name in sorted(old.keys() | self.settings.keys()):
            if name == "case" and old.get("base"):
                continue  # recorded by an earlier version, though the base decides it
            was = old[name] if name in old else self._formerly(name, old)
            now = self.settings.get(name)
            if self._comparable(name, was) != self._comparable(name, now):
                found.append(f"--{name.replace('_', '-')} was {was!r} and is {now!r}")
        if files:
            # Earlier versions also have digests of other settings that happened to be paths.
            known = {_normal(path): digest for path, digest in before["files"].items()}
            changed = sorted(path for path in files if files[path] != known.get(path, ""))
            found += [f"{path} has changed" for path in changed]
        if not found and model and not _is_same(before["model"], model):
            found.append("the recipe makes another model or trains it in another way")
        return found

    def _formerly(self, name: str, old: Mapping[str, Any]) -> Any:
        """Return the value of a setting that an earlier version did not have: its default, or what
        that version did instead."""
        if name == "sft_weight" and old.get("loss") == "dpo":
            return 0.0
        if name == "rehearse" and not old.get("csv"):  # now those of the default table
            return "no rows"
        return self._defaults.get(name)

    def _comparable(self, name: str, value: Any) -> Any:
        """Return a value in the form to compare: "" is None, and the path "./a" is "a"."""
        if value in ("", None):
            return None
        return _normal(value) if name in self._paths and isinstance(value, str) else value


def name_of(recipe: Callable[..., Any] | None) -> str:
    """Return the name of a recipe, that of its file; "" if it was typed into a session."""
    try:
        return Path(inspect.getfile(recipe)).stem  # pyright: ignore[reportArgumentType]
    except TypeError:
        return ""


def differences(folder: Path, found: Sequence[str]) -> InputError:
    """Return the error for an interrupted run with other settings, data or model.

    Args:
        folder: folder of the run.
        found: the differences.
    """
    return InputError(
        f"{folder} holds an interrupted run that differs from this one:\n  "
        + "\n  ".join(found)
        + "\n  To go on with it, repeat its command. To start over, pass --overwrite or "
        "choose another --name."
    )


def model_of(model: keras.Model, steps: int, epochs: int) -> dict[str, Any]:
    """Return a description of a compiled model and its training, as JSON values."""
    weights = [f"{list(w.shape)} {w.dtype}" for w in model.trainable_variables]
    description = {
        "architecture": model.config.to_dict(),
        "weights": hashlib.sha256("\n".join(weights).encode()).hexdigest(),
        "precision": str(model.dtype_policy.name),
        "optimizer": _without_names(model.optimizer.get_config()),
        "steps": (steps, epochs),
        "digest": _first_digest(model, steps, epochs),
    }
    return json.loads(json.dumps(description, default=str))


def _is_same(before: Any, now: Mapping[str, Any]) -> bool:
    """Return True if two descriptions by `model_of` are of the same training.

    Architecture fields that an earlier version did not have are compared by their defaults; new
    options of an optimizer are not compared.
    """
    if isinstance(before, str):
        return before == now["digest"]
    try:
        architecture = TransformerConfig.from_dict(before["architecture"]).to_dict()
        optimizer = {name: now["optimizer"].get(name) for name in before["optimizer"]}
        return (
            json.loads(json.dumps(architecture)) == now["architecture"]
            and optimizer == before["optimizer"]
            and all(before[name] == now[name] for name in ("weights", "precision", "steps"))
        )
    except (InputError, KeyError, TypeError, AttributeError):
        return False


def _first_digest(model: keras.Model, steps: int, epochs: int) -> str:
    """Return version 0.1's digest of a model; "" for models that it did not have."""
    first = {name: value for name, value in model.config.to_dict().items() if name in _FIRST_FIELDS}
    if TransformerConfig.from_dict(first) != model.config:
        return ""
    description = {
        "architecture": first,
        "weights": [(list(w.shape), str(w.dtype)) for w in model.trainable_variables],
        "precision": str(model.dtype_policy.name),
        "optimizer": _without_names(model.optimizer.get_config()),
        "steps": (steps, epochs),
    }
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in settings.items() if name not in _FREE}
    return json.loads(json.dumps(kept, default=str))


def _is_path(hint: Any) -> bool:
    """Return True if a type is a path, or may be one."""
    if isinstance(hint, type):
        return issubclass(hint, os.PathLike)  # pyright: ignore[reportGeneralTypeIssues]
    return any(map(_is_path, typing.get_args(hint)))


def _normal(path: str) -> str:
    return str(Path(path))


def _digest(path: Path) -> str:
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if not path.is_dir():
            return ""
    except OSError:  # the text cannot be a path
        return ""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            total.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            if file.name in _SUMMARIES:
                total.update(file.read_bytes())
    return total.hexdigest()


def _without_names(config):
    """Return a configuration without the names that Keras counts up in a process."""
    if not isinstance(config, dict):
        return config
    return {key: _without_names(value) for key, value in config.items() if key != "name"}
