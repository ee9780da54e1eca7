"""SIGTERM and SIGINT let a run finish its step and write a checkpoint; it exits with 143 or 130."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import warm

from tfx_transformer import flags, resources
from tfx_transformer.errors import InputError
from tfx_transformer.training import Run

ROOT = Path(__file__).resolve().parents[2]
FLAGS = """
--csv my.csv --size nano --vocabulary-size 300 --max-length 24 --epochs 500 --batch-size 8
--share 0.2 --patience 500
""".split()  # noqa: SIM905


def start(folder: Path, *command: str) -> warm.Program | subprocess.Popen:
    """Return a process that runs the recipe on a hundred pairs."""
    folder.mkdir()
    text = Path(resources.dataset_path("en_ja.csv")).read_text("utf-8").splitlines()
    (folder / "my.csv").write_text("\n".join(text[:101]), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return warm.start([*command, *FLAGS], cwd=folder, env=environment)


def steps(folder: Path) -> list[int]:
    """Return the steps of all whole checkpoints, in ascending order."""
    found = folder.glob("runs/en_ja/checkpoints/step_*")
    return sorted(int(path.name.removeprefix("step_")) for path in found)


VERB = ("-m", "tfx_transformer.cli", "run", "translation")
SCRIPT = (str(ROOT / "recipes" / "translation.py"),)


@pytest.mark.slow(but=["SIGTERM"])  # the test of swallowed signals sends both
@pytest.mark.parametrize(
    ("number", "code", "command"),
    [(signal.SIGTERM, 143, VERB), (signal.SIGINT, 130, SCRIPT)],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_ends_a_recipe_with_a_checkpoint(tmp_path, number, code, command):
    folder = tmp_path / "run"
    process = start(folder, *command)
    while max(steps(folder), default=0) < 10 and process.poll() is None:
        time.sleep(0.05)
    with pytest.raises(InputError, match=f"process {process.pid}, is writing there"):
        Run("en_ja", {}, root=folder / "runs")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    last = steps(folder)[-1]
    assert f"Ended by {number.name}" in errors and f"step_{last}" in errors
    assert not list(folder.glob("runs/en_ja/checkpoints/.step_*")), "nothing half-written"


class Destructor:
    """An object whose removal a signal interrupts: Python ignores the exception there."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        time.sleep(0.01)


def in_a_destructor(number):
    Destructor(number)


def caught(number):
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), number)
        time.sleep(0.1)


def turned_into_another_error(number):
    try:
        os.kill(os.getpid(), number)
        time.sleep(0.1)
    except BaseException:
        raise ValueError("None values not supported") from None


SWALLOWED = [in_a_destructor, caught, turned_into_another_error]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("swallow", SWALLOWED, ids=lambda function: function.__name__)
def test_a_signal_that_is_swallowed_ends_the_command(monkeypatch, capsys, swallow, number, code):
    monkeypatch.setattr(flags, "hush", lambda: None)
    monkeypatch.setattr(flags, "_AGAIN", 0.05)
    cleaned, before = [], signal.getsignal(signal.SIGALRM)

    def action():
        try:
            swallow(number)
            time.sleep(20)
        finally:  # is let finish, whatever comes
            time.sleep(0.12)
            os.kill(os.getpid(), number)
            with contextlib.suppress(OSError):
                raise OSError
            cleaned.append(True)

    begin = time.monotonic()
    with pytest.raises(SystemExit) as end:
        flags.run_action(action, argparse.Namespace(debug=False, json=False))
    assert end.value.code == code and cleaned and time.monotonic() - begin < 30
    assert "ignored" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGALRM) == before
