"""Programs on Keras's other backend, in processes of their own."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="jax is not installed (pip install jax)"
)

# Programs compile in a fraction of the time, and then run for a second.
_QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def run_on_jax(program: str, *arguments: str, devices: int = 1) -> None:
    """Run a program where JAX finds that many devices, all of them this CPU."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(devices),
        "PYTHONPATH": os.pathsep.join(map(str, [TESTS, TESTS / "faults", TESTS.parent])),
    }
    program = "import keras\nassert keras.backend.backend() == 'jax'\n" + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]


def xla_flags(devices: int) -> str:
    """Return XLA_FLAGS for that many devices, with `_QUICK`."""
    return f"--xla_force_host_platform_device_count={devices} {_QUICK}"
