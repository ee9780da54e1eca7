"""Programs in processes of their own: Python without some packages, and the command."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import warm

ROOT = Path(__file__).resolve().parent.parent

# Not needed where a bundle only runs.
TRAINING = ("tensorflow", "keras", "pandas", "safetensors", "tokenizers", "matplotlib", "sacrebleu")
RUN_PYZ = """
    import runpy, sys
    sys.argv = sys.argv[1:]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        assert "run.pyz" in sys.modules["tfx_transformer.runtime"].__file__
"""


def python(code, *arguments, cwd, blocked=(), tensorflow=False):
    """Output of a Python process that cannot import the blocked packages.

    tensorflow: the process may be one that has imported it, see warm.py.
    """
    block = f"import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n"
    command = ["-c", block + textwrap.dedent(code), *map(str, arguments)]
    if tensorflow:
        done = warm.run(command, cwd=cwd)
    else:
        done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def process(*arguments, cwd, tensorflow=False):
    """The command in a process of its own; tensorflow: see `python`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["-m", "tfx_transformer.cli", *map(str, arguments)]
    if tensorflow:
        return warm.run(command, cwd=cwd, env=environment)
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True
    )


def everything_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def wait_for(condition, seconds=60):
    """Return the first true value of a condition."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail("it does not happen")
