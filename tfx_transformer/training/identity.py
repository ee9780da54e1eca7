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

# What may change between the parts of one training: where it ends up, and how long it may take.
_FREE = {"name", "overwrite", "minutes", "save_minutes", "sentence", "example", "log"}

# Of `TransformerConfig`, in version 0.1.
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
    """All that a training depends on, and what of it has changed since it was interrupted.

    Args:
        settings: of the run.
        recipe: the function whose arguments they are; see `Run`.

    Attributes:
        settings: those that decide what the training comes to, as JSON holds them.
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
        """Return a digest of every file and folder that was read or that is the value of a path
        setting, or one of several with commas between: of a file's bytes; of a folder's names,
        sizes and sums (`SHA256SUMS`); "" where there is none.

        Args:
            read: paths.
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
        """Return what differs from an interrupted training, such as "--epochs was 3 and is 5".

        Args:
            before: what its checkpoint holds, by this version or an earlier one.
            files: of `files`, where they are known already.
            model: of `model_of`, where it is known already.
        """
        old = before["settings"]
        found = []
        for name in sorted(old.keys() | self.settings.keys()):
            was, now = old.get(name, self._defaults.get(name)), self.settings.get(name)
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

    def _comparable(self, name: str, value: Any) -> Any:
        """Return a value as it is compared: "" and None are both no value, "./a" and "a" are one
        path."""
        if value in ("", None):
            return None
        return _normal(value) if name in self._paths and isinstance(value, str) else value


def differences(folder: Path, found: Sequence[str]) -> InputError:
    """Return the error for an interrupted run that was another one.

    Args:
        folder: of the run.
        found: what differs.
    """
    return InputError(
        f"{folder} holds an interrupted run that differs from this one:\n  "
        + "\n  ".join(found)
        + "\n  To go on with it, repeat its command. To start over, pass --overwrite or "
        "choose another --name."
    )


def model_of(model: keras.Model, steps: int, epochs: int) -> dict[str, Any]:
    """Return what a compiled model is and how it is trained, as JSON values."""
    weights = [f"{list(w.shape)} {w.dtype}" for w in model.trainable_variables]
    about = {
        "architecture": model.config.to_dict(),
        "weights": hashlib.sha256("\n".join(weights).encode()).hexdigest(),
        "precision": str(model.dtype_policy.name),
        "optimizer": _without_names(model.optimizer.get_config()),
        "steps": (steps, epochs),
        "digest": _first_digest(model, steps, epochs),
    }
    return json.loads(json.dumps(about, default=str))


def _is_same(before: Any, now: Mapping[str, Any]) -> bool:
    """Return True if two descriptions by `model_of` are of one training.

    Fields of an architecture that an earlier version did not have yet count by their defaults; new
    options of an optimizer do not count.
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
    """Return the digest by which version 0.1 knew a model; "": it had no such models."""
    first = {name: value for name, value in model.config.to_dict().items() if name in _FIRST_FIELDS}
    if TransformerConfig.from_dict(first) != model.config:
        return ""
    about = {
        "architecture": first,
        "weights": [(list(w.shape), str(w.dtype)) for w in model.trainable_variables],
        "precision": str(model.dtype_policy.name),
        "optimizer": _without_names(model.optimizer.get_config()),
        "steps": (steps, epochs),
    }
    text = json.dumps(about, sort_keys=True, default=str)
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
    except OSError:  # a text that no file can be named by
        return ""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            total.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            if file.name == "SHA256SUMS":
                total.update(file.read_bytes())
    return total.hexdigest()


def _without_names(config):
    """Return a configuration without the names that Keras counts up in a process."""
    if not isinstance(config, dict):
        return config
    return {key: _without_names(value) for key, value in config.items() if key != "name"}
