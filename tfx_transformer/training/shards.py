"""Arrays that are divided among devices, written and read by Orbax some at once, so that the host
never holds all of them.

Keras's own callback for Orbax does not restore on JAX (keras #23251), so this calls the library.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer import installation
from tfx_transformer.errors import InputError

# Most bytes of the arrays that Orbax writes or reads at once; one array may be larger. It copies
# them all to the host before it writes the first, and reads new values beside the old ones.
_AT_ONCE = 2**30


def is_installed() -> bool:
    """Return True if Orbax is installed."""
    names = ("orbax", "orbax.checkpoint")  # other packages are in `orbax` too
    return all(importlib.util.find_spec(name) is not None for name in names)


def is_divided(value: Any) -> bool:
    """Return True for an array of JAX of which no device holds the whole."""
    return not getattr(value, "is_fully_replicated", True)


def write(folder: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays of JAX to a new folder: those that are written at once to the folders 0, 1, …

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir()
    with _checkpointer() as checkpointer:
        for number, some in enumerate(_groups(arrays)):
            arguments = _orbax().args.PyTreeSave(some)
            try:
                checkpointer.save(folder.absolute() / str(number), args=arguments)
            except ValueError as error:  # tensorstore's, of the file system too
                raise OSError(str(error)) from error


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array in a folder.

    Raises:
        InputError: Orbax is not installed, or the folder cannot be read.
    """
    with _checkpointer() as checkpointer, _explaining(folder):
        found = [_shapes(checkpointer, group) for group in folder.absolute().iterdir()]
    return {name: shape for group in found for name, shape in group.items()}


def gather(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays in a folder, whole, in the memory of the host.

    Raises:
        InputError: Orbax is not installed, or the folder cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    whole = _orbax().RestoreArgs(restore_type=np.ndarray, dtype="float32")
    with _checkpointer() as checkpointer, _explaining(folder):
        for group in folder.absolute().iterdir():
            options = dict.fromkeys(_shapes(checkpointer, group), whole)
            arguments = _orbax().args.PyTreeRestore(restore_args=options)
            found |= checkpointer.restore(group, args=arguments)
    return found


def read(
    folder: Path, variables: Mapping[str, keras.Variable]
) -> Iterator[tuple[keras.Variable, Any]]:
    """Yield variables and their values in a folder, each divided as the variable is now. Backends
    other than JAX get arrays of NumPy.

    Args:
        folder: the folder.
        variables: the variable of each array in it.

    Raises:
        InputError: Orbax is not installed, or the folder cannot be read.
    """
    orbax = _orbax()

    def options(variable: keras.Variable) -> Any:
        if keras.backend.backend() != "jax":
            return orbax.RestoreArgs(restore_type=np.ndarray)
        return orbax.ArrayRestoreArgs(sharding=variable.value.sharding, dtype=variable.dtype)

    with _checkpointer() as checkpointer:
        for group in folder.absolute().iterdir():
            with _explaining(folder):
                names = list(_shapes(checkpointer, group))
                arguments = orbax.args.PyTreeRestore(
                    item=dict.fromkeys(names, 0),
                    restore_args={name: options(variables[name]) for name in names},
                    partial_restore=True,
                )
                found = checkpointer.restore(group, args=arguments)
            for name in names:
                yield variables[name], found[name]


def _groups(arrays: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the arrays in groups that are written at once: see `_AT_ONCE`."""
    group: dict[str, Any] = {}
    size = 0
    for name, array in arrays.items():
        if group and size + array.nbytes > _AT_ONCE:
            yield group
            group, size = {}, 0
        group[name] = array
        size += array.nbytes
    yield group


def _shapes(checkpointer: Any, group: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array that Orbax wrote to a folder."""
    tree = checkpointer.metadata(group).item_metadata.tree
    return {name: tuple(array.shape) for name, array in tree.items()}


@contextlib.contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Raise the errors of Orbax and tensorstore in the block as `InputError`."""
    try:
        yield
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{folder} cannot be read: {line}.") from error


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    """Yield a checkpointer of Orbax, whose warnings are not printed in the block."""
    orbax, logger = _orbax(), logging.getLogger("absl")
    # Of several hosts only host 0 reads: the others do not wait for it here.
    only = orbax.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    handler = orbax.PyTreeCheckpointHandler(multiprocessing_options=only)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with orbax.Checkpointer(handler, multiprocessing_options=only) as checkpointer:
            yield checkpointer
    finally:
        logger.setLevel(before)


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
