"""Several hosts that train one model: they find each other, agree, and host 0 writes.

Everything but the training steps is computed by each host for itself, from the same data and seed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import devices
from tfx_transformer.console import begin
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity
from tfx_transformer.training import shards
from tfx_transformer.training.checkpoints import Checkpoint, Checkpoints

# Seconds until all hosts must have joined; without a sign of life, until a host counts as lost; and
# for which a host that ends waits for the others.
_JOINING, _SILENCE, _ENDING = 600, 60, 5

# Words in the errors of the libraries that send numbers between hosts, and of JAX's coordinator.
_LOST = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination")

_joined = False
_private: tempfile.TemporaryDirectory[str] | None = None


class HostLost(InputError):
    """Another host has ended, or cannot be reached: the run goes on from its last checkpoint."""


def join() -> None:
    """Wait for the other hosts that `devices.use` was given; do nothing if there are none.

    JAX may not have computed anything before.

    Raises:
        InputError: not all hosts came, two have the same index, or the numbers of their devices
            differ.
    """
    global _joined
    place = devices.in_use().place
    if place.count == 1 or _joined:
        return
    import jax  # pyright: ignore[reportMissingImports]

    begin(f"waiting for {quantity(place.count - 1, 'other host')} at {place.coordinator}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # This service would handle SIGTERM itself.
    jax.config.update("jax_enable_preemption_service", False)
    errors = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                place.coordinator,
                place.count,
                place.index,
                cluster_detection_method="deactivate",
                initialization_timeout=_JOINING,
                heartbeat_timeout_seconds=_SILENCE,
                shutdown_timeout_seconds=_ENDING,
            )
        except Exception as error:
            errors.append(error)

    # In a thread, so that a signal ends the waiting.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if errors:
        raise InputError(
            f"host {place.index} of {place.count} could not join the others at "
            f"{place.coordinator}: {_first_line(errors[0])}\n"
            "  Start the same command on all hosts, each with its own --host-index, and with an "
            "address of host 0 and a free port there that they all reach."
        ) from errors[0]
    _joined = True
    devices.leave_early = _leave_early
    check_devices([device.process_index for device in jax.devices()])
    with _without_output():
        gather(np.zeros(1, "int32"))  # gloo prints when it connects


def check_devices(hosts_of_devices: Iterable[int]) -> None:
    """Raise unless JAX finds as many devices on all hosts, as sending numbers needs.

    Args:
        hosts_of_devices: index of the host of each device of all hosts.
    """
    numbers = collections.Counter(hosts_of_devices)
    fewest, most = min(numbers, key=numbers.__getitem__), max(numbers, key=numbers.__getitem__)
    if numbers[fewest] != numbers[most]:
        raise InputError(
            f"JAX finds {quantity(numbers[most], 'device')} on host {most} and "
            f"{numbers[fewest]} on host {fewest}.\n"
            "  All hosts must have the same number: hide some where there are more, such as by "
            "CUDA_VISIBLE_DEVICES."
        )


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Discard what libraries write to descriptor 1 in the block."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def count() -> int:
    """Return the number of hosts that train now; 1 before `join` and after `leave`."""
    return devices.in_use().place.count if _joined else 1


def index() -> int:
    """Return the index of this host, from 0."""
    return devices.in_use().place.index if _joined else 0


def leave() -> None:
    """Wait until all hosts are here; from then on each is alone."""
    global _joined
    if not _joined:
        return
    import jax  # pyright: ignore[reportMissingImports]

    gather(np.zeros(1, "int32"))
    jax.distributed.shutdown()
    _joined = False


def _leave_early(ended: BaseException) -> None:
    """End this process at once if the others may still wait for it. At an ordinary exit JAX would
    wait for them, and then abort. They notice the end at their next step, or within `_SILENCE`
    seconds.

    Args:
        ended: the exception that ends the command.
    """
    if not _joined:
        return
    status: Any = getattr(ended, "code", None)
    if not isinstance(ended, SystemExit):
        sys.excepthook(type(ended), ended, ended.__traceback__)
        status = 130 if isinstance(ended, KeyboardInterrupt) else 1
    elif status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)  # as Python does at an ordinary exit
    if _private is not None:
        _private.cleanup()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else status is not None)


def folder_of_runs(root: str) -> str:
    """Return the folder of all runs: `root` on host 0, so that only host 0 writes there; on others
    a temporary one, which is removed at the end of the process."""
    global _private
    if devices.in_use().place.index == 0:
        return root
    _private = _private or tempfile.TemporaryDirectory(prefix="tfx-transformer-")
    return _private.name


def gather(values: np.ndarray) -> np.ndarray:
    """Return (hosts, …): the values of every host, an array of the same shape and dtype on all."""
    if count() == 1:
        return values[None]
    from jax.experimental import multihost_utils  # pyright: ignore[reportMissingImports]

    with not_alone():
        return np.asarray(multihost_utils.process_allgather(values))


def first(value: int) -> int:
    """Return the value that host 0 gives."""
    return int(gather(np.array(value, "int32"))[0])


def largest(value: int) -> int:
    """Return the largest value that a host gives."""
    return int(gather(np.array(value, "int32")).max())


def check_alike(parts: Mapping[str, Any]) -> None:
    """Raise unless all hosts have the same values.

    Args:
        parts: name, for the message -> bytes, or a JSON value.

    Raises:
        InputError: a host has other values than host 0.
    """
    if count() == 1:
        return
    digests = [hashlib.sha256(_as_bytes(part)).digest()[:8] for part in parts.values()]
    found = gather(np.frombuffer(b"".join(digests), "int32").reshape(len(parts), 2))
    differs = (found != found[0]).any(axis=2)
    for host, others in enumerate(differs):
        if others.any():
            names = [name for name, other in zip(parts, others, strict=True) if other]
            raise InputError(
                f"host {host} has other {' and other '.join(names)} than host 0.\n"
                "  Start the same command on all hosts, with the same files and versions of all "
                "packages."
            )


def _as_bytes(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    return json.dumps(part, sort_keys=True, default=str).encode()


class SharedCheckpoints(Checkpoints):
    """Checkpoints that host 0 writes and reads: the others get from it what it reads, and need not
    reach its disk.

    Args:
        store: the checkpoints on host 0.
    """

    def __init__(self, store: Checkpoints) -> None:
        super().__init__(store.folder)
        self._store = store

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
        divided: Mapping[str, Any] | None = None,
    ) -> None:
        if index() == 0:
            self._store.save(step, arrays, state, divided)

    def load_newest(self) -> Checkpoint | None:
        if count() == 1:
            return self._store.load_newest()
        found = self._store.load_newest() if index() == 0 else None
        header = b""
        if found is not None and found.divided is not None:
            arrays = found.arrays | shards.gather(found.divided)
            found = dataclasses.replace(found, arrays=arrays, divided=None)
        if found is not None:
            arrays = {name: [a.dtype.str, a.shape] for name, a in found.arrays.items()}
            header = json.dumps([str(found.path), found.state, arrays], default=float).encode()
        length = first(len(header))
        if not length:
            return None
        path, state, described = json.loads(_send(header, length))
        arrays = {}
        for name, (dtype, shape) in described.items():
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            content = b"" if found is None else np.ascontiguousarray(found.arrays[name]).tobytes()
            arrays[name] = np.frombuffer(_send(content, size), dtype).reshape(shape).copy()
        return found or Checkpoint(Path(path), arrays, state)

    def clear(self) -> None:
        if index() == 0:
            self._store.clear()


def _send(content: bytes, length: int) -> bytes:
    """Return the bytes of host 0; all hosts know their number."""
    from jax.experimental import multihost_utils  # pyright: ignore[reportMissingImports]

    padded = np.zeros(-(-length // 4), "uint32")
    padded.view("uint8")[: len(content)] = np.frombuffer(content, "uint8")
    with not_alone():
        return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes()[:length]


@contextlib.contextmanager
def not_alone() -> Iterator[None]:
    """Raise `HostLost` if the block fails because another host has ended or cannot be reached."""
    try:
        yield
    except InputError:  # it says what happened already
        raise
    except Exception as error:
        if count() > 1 and any(text in str(error) for text in _LOST):
            raise HostLost(
                f"another host of the run has ended or cannot be reached: {_first_line(error)}\n"
                "  Start all hosts again with the same command: the run goes on from its last "
                "checkpoint."
            ) from error
        raise


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
