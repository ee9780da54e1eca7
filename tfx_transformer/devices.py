"""The devices that a training is divided among: the flag `--devices` of all recipes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from pathlib import Path

from tfx_transformer import installation
from tfx_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Devices:
    """Divide each batch among several devices of this machine; Keras must be on JAX.

    Args:
        devices (N|all): Number of GPUs or TPU cores among which each batch is divided, or all. More
            than one needs KERAS_BACKEND=jax.

    Raises:
        InputError: `devices` is neither a number from 1 nor "all"; or it asks for several, and
            Keras is not on JAX or JAX is not installed.
    """

    devices: str = "1"

    def __post_init__(self) -> None:
        text = self.devices
        if text != "all" and not (text.isascii() and text.isdigit() and int(text) > 0):
            raise InputError(f"--devices is {text!r}.\n  Expected a number from 1, or all.")
        if not self.several:
            return
        backend = keras_backend()
        if backend != "jax":
            raise InputError(
                f"--devices {text} needs Keras on JAX, and it is on {backend}.\n"
                "  Set KERAS_BACKEND=jax before the command, or leave --devices out."
            )
        if importlib.util.find_spec("jax") is None:
            raise InputError(
                f"--devices {text} needs JAX, which is not installed.\n"
                f"  pip install {installation.requirement('jax')}"
            )

    @property
    def several(self) -> bool:
        """True for a number above 1, and for "all"."""
        return self.devices == "all" or int(self.devices) > 1

    def number(self, found: int) -> int:
        """Return the number of devices to use.

        Args:
            found: number of devices that JAX finds.

        Raises:
            InputError: JAX finds fewer than `devices`.
        """
        asked = found if self.devices == "all" else int(self.devices)
        if asked > found:
            raise InputError(
                f"--devices is {asked}, and JAX finds {found}.\n"
                f"  Pass --devices {found} or all. To try it on a CPU, set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={asked}."
            )
        return asked


_chosen = Devices()


def use(chosen: Devices) -> None:
    """Divide the trainings that begin from now on among these devices."""
    global _chosen
    _chosen = chosen


def in_use() -> Devices:
    """Return the devices that `use` was given last, by default one."""
    return _chosen


def keras_backend() -> str:
    """Return the backend of Keras without its import: KERAS_BACKEND, else the one in Keras's file
    of settings, else tensorflow."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
    try:
        return str(json.loads(file.read_text("utf-8")).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):  # Keras ignores such a file too
        return "tensorflow"
