"""Arrays that are divided among devices, written and read by Orbax: part by part, so that none of
them is gathered in the memory of the host.

Keras's own callback for Orbax does not restore on JAX (keras #23251), so this calls the library.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer import installation
from tfx_transformer.errors import InputError

# Arrays that are read at once: so many of the new values are on the devices beside the old ones.
_AT_ONCE = 16


def is_installed() -> bool:
    """Return True if Orbax is installed."""
    return importlib.util.find_spec("orbax") is not None


def is_divided(value: Any) -> bool:
    """Return True for an array of JAX of which no device holds the whole."""
    return not getattr(value, "is_fully_replicated", True)


def write(folder: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays of JAX to a new folder.

    Raises:
        OSError: the folder cannot be written.
    """
    with _checkpointer() as checkpointer:
        try:
            checkpointer.save(folder.absolute(), args=_orbax().args.PyTreeSave(dict(arrays)))
        except ValueError as error:  # tensorstore's, of the file system too
            raise OSError(str(error)) from error


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array in a folder.

    Raises:
        InputError: Orbax is not installed, or the folder cannot be read.
    """
    with _checkpointer() as checkpointer, _explaining(folder):
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
        return {name: tuple(array.shape) for name, array in tree.items()}


def gather(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays in a folder, whole, in the memory of the host.

    Raises:
        InputError: Orbax is not installed, or the folder cannot be read.
    """
    names = shapes(folder)
    how = dict.fromkeys(names, _orbax().RestoreArgs(restore_type=np.ndarray, dtype="float32"))
    arguments = _orbax().args.PyTreeRestore(restore_args=how)
    with _checkpointer() as checkpointer, _explaining(folder):
        return checkpointer.restore(folder.absolute(), args=arguments)


def read(
    folder: Path, variables: Mapping[str, keras.Variable]
) -> Iterator[tuple[keras.Variable, Any]]:
    """Yield variables and their values in a folder, each divided as the variable is now. Backends
    other than JAX get arrays of NumPy.

    Raises:
        InputError: Orbax is not installed, or the folder cannot be read.
    """
    orbax, names = _orbax(), list(variables)

    def how(variable: keras.Variable) -> Any:
        if keras.backend.backend() != "jax":
            return orbax.RestoreArgs(restore_type=np.ndarray)
        return orbax.ArrayRestoreArgs(sharding=variable.value.sharding, dtype=variable.dtype)

    with _checkpointer() as checkpointer:
        for start in range(0, len(names), _AT_ONCE):
            some: Sequence[str] = names[start : start + _AT_ONCE]
            arguments = orbax.args.PyTreeRestore(
                item=dict.fromkeys(some, 0),
                restore_args={name: how(variables[name]) for name in some},
                partial_restore=True,
            )
            with _explaining(folder):
                found = checkpointer.restore(folder.absolute(), args=arguments)
            for name in some:
                yield variables[name], found[name]


@contextlib.contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Raise the errors of Orbax and tensorstore in the block as `InputError`."""
    try:
        yield
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{folder} cannot be read: {line}.") from error


def _checkpointer() -> Any:
    orbax = _orbax()
    # Only this process has the arrays.
    only = orbax.options.MultiprocessingOptions(primary_host=None)
    handler = orbax.PyTreeCheckpointHandler(multiprocessing_options=only)
    return orbax.Checkpointer(handler, multiprocessing_options=only)


def _orbax() -> Any:
    """Return the library.

    Raises:
        InputError: it is not installed.
    """
    if not is_installed():
        raise InputError(
            "the checkpoint is divided among devices, and Orbax, which reads it, is not installed."
            f"\n  pip install {installation.requirement('orbax')}"
        )
    import orbax.checkpoint  # pyright: ignore[reportMissingImports]

    return orbax.checkpoint
