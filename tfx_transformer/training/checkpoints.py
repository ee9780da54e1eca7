"""Checkpoints of a run on disk, each complete and with checksums; the last ones are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tfx_transformer import bundle, files, json_files
from tfx_transformer.errors import InputError

KEPT = 2

_ARRAYS, _DIVIDED = "arrays.safetensors", "divided"
_NAME = re.compile(r"step_(\d+)")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: arrays by name, JSON values, and the folder of further arrays,
    if there is one: see `shards`."""

    path: Path
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]
    divided: Path | None = None


class Checkpoints:
    """The folders `step_<n>` in one folder. A new one appears whole or not at all: it is written
    next to its place, hashed, flushed to disk and renamed (`bundle.writing`).

    Args:
        folder: belongs to one run; nothing else writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tidy(self) -> None:
        """Remove what a process left if it died while it wrote or removed a checkpoint."""
        for path in self.folder.glob(".step_*"):
            if path.is_file() or path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path, ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in order."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("step_*"))
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"step_{step}"

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
        divided: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint, and remove all but the last `KEPT`.

        Args:
            step: steps made.
            arrays: arrays by name.
            state: JSON values.
            divided: further arrays by name, divided among devices: see `shards`.

        Raises:
            InputError: it cannot be written, such as on a full disk; earlier ones are kept.
        """
        path = self.path(step)
        if path.exists():
            return
        try:
            with bundle.writing(path) as folder:
                safetensors.numpy.save_file(dict(arrays), folder / _ARRAYS)
                files.write(folder / bundle.CONFIG, json.dumps(state, default=float))
                if divided:
                    from tfx_transformer.training import shards  # not before a framework starts

                    shards.write(folder / _DIVIDED, divided)
        except (OSError, safetensors.SafetensorError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise InputError(f"{path} could not be written: {why}.") from error
        for old in self.steps()[:-KEPT]:
            self._remove(old)

    def load_newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, and print which are damaged; None without any.

        Raises:
            InputError: all of them are damaged.
        """
        damages = []
        for step in reversed(self.steps()):
            try:
                found = self._read(self.path(step))
            except InputError as error:
                damages.append(str(error).splitlines()[0])
                continue
            for damage in damages:
                print(f"A damaged checkpoint is skipped: {damage}")
            for later in self.steps():
                if later > step:
                    self._remove(later)
            return found
        if damages:
            raise InputError(
                "all checkpoints are damaged:\n  " + "\n  ".join(damages) + "\n"
                "  To start over, pass --overwrite or choose another --name."
            )
        return None

    def peek(self) -> dict[str, Any] | None:
        """Return the JSON values of the newest readable checkpoint, unverified, or None."""
        for step in reversed(self.steps()):
            with contextlib.suppress(InputError):
                return json_files.read_object(self.path(step) / bundle.CONFIG)
        return None

    def clear(self) -> None:
        """Remove all checkpoints, the newest last, and nothing else in the folder."""
        for step in self.steps():
            self._remove(step)
        with contextlib.suppress(OSError):  # it has other files, of the user
            self.folder.rmdir()

    def _read(self, path: Path) -> Checkpoint:
        bundle.verify(path)
        state = json_files.read_object(path / bundle.CONFIG)
        try:
            arrays = safetensors.numpy.load_file(path / _ARRAYS)
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}.") from error
        divided = path / _DIVIDED
        return Checkpoint(path, arrays, state, divided if divided.is_dir() else None)

    def _remove(self, step: int) -> None:
        # Half removed under its own name, it would look like a damaged checkpoint.
        hidden = self.folder / f".step_{step}-old"
        os.rename(self.path(step), hidden)
        shutil.rmtree(hidden, ignore_errors=True)
