"""What makes two trainings the same one: settings, files, model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras

# What may change between the parts of one training: where it ends up, and how long it may take.
_FREE = {"name", "overwrite", "minutes", "save_minutes", "sentence"}


def settings_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what a training comes to, as JSON holds them."""
    # No value was an empty text once, and checkpoints of that time still go on.
    kept = {n: "" if v is None else v for n, v in settings.items() if n not in _FREE}
    return json.loads(json.dumps(kept, default=str))


def files_of(settings: Mapping[str, Any], read: Iterable[str]) -> dict[str, str]:
    """A digest of every file and folder that was read or that a setting names: of a file's bytes;
    of a folder's names, sizes and sums (`SHA256SUMS`).

    Args:
        read: paths.
    """
    texts = [str(value) for value in settings.values() if isinstance(value, str | Path)]
    named = [part for text in texts for part in (text, *text.split(","))]
    paths = {part.strip() for part in (*named, *read) if part.strip()}
    return {path: _digest(Path(path)) for path in sorted(paths) if os.path.exists(path)}


def model_of(model: keras.Model, steps: int, epochs: int) -> str:
    """A digest of what a compiled model is and how it is trained."""
    about = {
        "architecture": model.config.to_dict(),
        "weights": [(list(w.shape), str(w.dtype)) for w in model.trainable_variables],
        "precision": str(model.dtype_policy.name),
        "optimizer": _unnamed(model.optimizer.get_config()),
        "steps": (steps, epochs),
    }
    text = json.dumps(about, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words, such as "--epochs was 3 and is 5".

    Args:
        before, now: "settings", and where it is known already "files" and "model".
    """
    old, new = before["settings"], now["settings"]
    found = [
        f"--{name.replace('_', '-')} was {old.get(name)!r} and is {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if "files" in now:
        files = before["files"].items() ^ now["files"].items()
        found += [f"{path} has changed" for path in sorted({path for path, _ in files})]
    if not found and "model" in now and now["model"] != before["model"]:
        found.append("the recipe makes another model or trains it in another way")
    return found


def _digest(path: Path) -> str:
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            total.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            if file.name == "SHA256SUMS":
                total.update(file.read_bytes())
    return total.hexdigest()


def _unnamed(config):
    """Without the names that Keras gives: they count what a process has made."""
    if not isinstance(config, dict):
        return config
    return {key: _unnamed(value) for key, value in config.items() if key != "name"}
