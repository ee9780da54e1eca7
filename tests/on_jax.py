"""Programs on Keras's other backend, in processes of their own."""

import importlib.util
import os
import socket
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


def start_on_jax(program: str, *arguments: str, devices: int = 1) -> subprocess.Popen:
    """Start a program where JAX finds that many devices, all of them this CPU."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {_QUICK}",
        "PYTHONPATH": os.pathsep.join(map(str, [TESTS, TESTS / "faults", TESTS.parent])),
    }
    program = "import keras\nassert keras.backend.backend() == 'jax'\n" + textwrap.dedent(program)
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_on_jax(program: str, *arguments: str, devices: int = 1) -> None:
    """Run a program where JAX finds that many devices, all of them this CPU."""
    process = start_on_jax(program, *arguments, devices=devices)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-4000:]


# Chooses the host of a process; its last three arguments are those of `start_hosts`.
_HOST = """
import sys
from tfx_transformer import devices

*arguments, hosts, coordinator, index = sys.argv[1:]
here = {"hosts": hosts, "coordinator": coordinator, "host_index": int(index)}
if hosts != "1":
    devices.use(devices.Devices("all", **here))
"""


def start_hosts(
    program: str, *arguments: str, hosts: int, devices: int = 1
) -> list[subprocess.Popen]:
    """Start a program on some hosts, all of them this computer. It finds its own arguments in
    `arguments`, and the flags of its host in `here`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    whole = _HOST + textwrap.dedent(program)
    return [
        start_on_jax(whole, *arguments, str(hosts), address, str(index), devices=devices)
        for index in range(hosts)
    ]


def run_hosts(program: str, *arguments: str, hosts: int, devices: int = 1) -> list[str]:
    """Run a program on some hosts, see `start_hosts`; return the output of each."""
    processes = start_hosts(program, *arguments, hosts=hosts, devices=devices)
    outputs = [process.communicate(timeout=400) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-4000:]
    return [output for output, _ in outputs]
