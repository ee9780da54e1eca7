"""The devices and hosts that a training is divided among: flags of all recipes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tfx_transformer import clusters, installation
from tfx_transformer.errors import InputError

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


@dataclasses.dataclass(frozen=True)
class Devices:
    """Divide each batch among several devices and hosts; Keras must be on JAX.

    Args:
        devices (N|all): Number of GPUs or TPU cores of each host among which each batch is divided,
            or all. More than one needs KERAS_BACKEND=jax.
        model_parallel: Number of devices of a host among which the weights are divided, for models
            that do not fit on one; a divisor of --devices. 1: each device has all weights.
        hosts (N|all): Number of hosts, each of which runs this command; all: as many as the
            variables of SLURM, Kubernetes or Cloud TPU say. More than one needs KERAS_BACKEND=jax.
        coordinator (ADDRESS): Name or address of host 0 and a free port there, such as node1:8476,
            the same on all hosts. Default: from these variables.
        host_index (N): Index of this host, from 0. Default: from these variables.

    Raises:
        InputError: `devices` or `hosts` is neither a number from 1 nor "all"; or they ask for
            several, and Keras is not on JAX, or JAX is not installed; or `model_parallel` is less
            than 1, or more than `devices`; or the coordinator or the index of the host is wrong or
            unknown.
    """

    devices: str = "1"
    model_parallel: int = 1
    hosts: str = "1"
    coordinator: str = ""
    host_index: int | None = None

    def __post_init__(self) -> None:
        for flag, text in (("--devices", self.devices), ("--hosts", self.hosts)):
            if text != "all" and not (text.isascii() and text.isdigit() and int(text) > 0):
                raise InputError(f"{flag} is {text!r}.\n  Expected a number from 1, or all.")
            if text == "all" or int(text) > 1:
                _check_backend(flag, text)
        if self.model_parallel < 1 or (self.model_parallel > 1 and not self.several):
            raise InputError(
                f"--model-parallel is {self.model_parallel}, and --devices is {self.devices}.\n"
                "  Expected a number from 1 that divides the number of devices."
            )
        _ = self.place  # refuses what is missing or wrong

    @property
    def several(self) -> bool:
        """True for a number of devices above 1, and for "all"."""
        return self.devices == "all" or int(self.devices) > 1

    @property
    def place(self) -> clusters.Hosts:
        """The hosts, and the index of this one: from the flags, else from the environment.

        Raises:
            InputError: see `Devices`.
        """
        if self.hosts == "all":
            found = clusters.find(os.environ)
            if found is None:
                raise InputError(
                    "--hosts all, but no variables of SLURM, Kubernetes or Cloud TPU are set.\n"
                    "  Start the command by srun or as an indexed job, or pass --hosts N "
                    "--coordinator HOST:PORT --host-index I."
                )
            count, coordinator, index = found.count, found.coordinator, found.index
            coordinator = self.coordinator or coordinator
            index = index if self.host_index is None else self.host_index
        else:
            count, coordinator, index = int(self.hosts), self.coordinator, self.host_index
        if count == 1:
            if self.hosts != "all" and (self.coordinator or self.host_index):
                raise InputError(
                    "--coordinator and --host-index are for several hosts, and --hosts is 1.\n"
                    "  Pass --hosts N too."
                )
            return clusters.Hosts(1, 0, "")
        coordinator = coordinator or clusters.coordinator_of(os.environ)
        index = clusters.index_of(os.environ) if index is None else index
        if not coordinator or index is None:
            missing = "--coordinator HOST:PORT" if not coordinator else "--host-index I"
            raise InputError(
                f"--hosts is {self.hosts}, and {missing.partition(' ')[0]} is missing.\n"
                f"  Pass {missing}; no variable of SLURM, Kubernetes or Cloud TPU gives it."
            )
        address = _ADDRESS.fullmatch(coordinator)
        if address is None or not 0 < int(address[2]) < 65_536:
            raise InputError(
                f"--coordinator is {coordinator!r}.\n"
                "  Expected the name or address of host 0 and a free port, such as node1:8476."
            )
        if not 0 <= index < count:
            raise InputError(
                f"--host-index is {index}, and --hosts is {count}.\n"
                f"  Expected a number from 0 to {count - 1}, another one on each host."
            )
        return clusters.Hosts(count, index, coordinator)

    def number(self, found: int) -> int:
        """Return the number of devices to use on this host.

        Args:
            found: number of devices that JAX finds there.

        Raises:
            InputError: JAX finds fewer than `devices`, or `model_parallel` does not divide them.
        """
        asked = found if self.devices == "all" else int(self.devices)
        if asked > found:
            raise InputError(
                f"--devices is {asked}, and JAX finds {found}.\n"
                f"  Pass --devices {found} or all. To try it on a CPU, set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={asked}."
            )
        if asked % self.model_parallel:
            raise InputError(
                f"--model-parallel {self.model_parallel} does not divide {asked} devices.\n"
                "  Pass a divisor of the number of devices."
            )
        return asked


def _check_backend(flag: str, text: str) -> None:
    """Raise unless Keras is on JAX and JAX is installed."""
    backend = keras_backend()
    if backend != "jax":
        raise InputError(
            f"{flag} {text} needs Keras on JAX, and it is on {backend}.\n"
            f"  Set KERAS_BACKEND=jax before the command, or leave {flag} out."
        )
    if importlib.util.find_spec("jax") is None:
        raise InputError(
            f"{flag} {text} needs JAX, which is not installed.\n"
            f"  pip install {installation.requirement('jax')}"
        )


class Followed(SystemExit):
    """Ends the command on a host other than host 0 after the training. Host 0 goes on alone.

    Attributes:
        result: the result of the command there.
    """

    def __init__(self, place: clusters.Hosts) -> None:
        super().__init__(0)
        self.result = {"host": place.index, "hosts": place.count}


_chosen = Devices()

# Called with the exception that ends a recipe's command, if other hosts may still wait for it.
leave_early: Callable[[BaseException], None] | None = None

# Parts into which the batch of the current step is divided.
_parts = 1


@contextlib.contextmanager
def dividing(parts: int) -> Iterator[None]:
    """In the block, each batch of a step is divided among the devices into so many parts."""
    global _parts
    before, _parts = _parts, parts
    try:
        yield
    finally:
        _parts = before


def own_rows(rows: int) -> int:
    """Return how many of the rows of an array a device computes: its part, or all if the parts
    cannot be equal."""
    return rows if rows % _parts else rows // _parts


def use(chosen: Devices) -> None:
    """Divide the trainings that begin from now on among these devices and hosts."""
    global _chosen
    _chosen = chosen


def in_use() -> Devices:
    """Return the devices that `use` was given last, by default one."""
    return _chosen


def keras_backend() -> str:
    """Return the backend of Keras without importing it: KERAS_BACKEND, else the one in Keras's file
    of settings, else tensorflow."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
    try:
        return str(json.loads(file.read_text("utf-8")).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):  # Keras ignores such a file too
        return "tensorflow"
