"""Exports from a process with another Keras backend: they run in a process with TensorFlow, whose
graphs they write."""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import keras

from tfx_transformer import wording
from tfx_transformer.prediction.answers import TablePredictor

_LEFT_OUT = (keras.Model, TablePredictor)

P = ParamSpec("P")
R = TypeVar("R")

# Reads a call from the file of its first argument, and writes the outcome to that of its second.
# `tfx_transformer.export` starts TensorFlow without its messages.
_SCRIPT = """
import tfx_transformer
tfx_transformer.export
from tfx_transformer.export.tensorflow_process import answer
answer()
"""


def on_tensorflow(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that calls `function`; if Keras has another backend here, in a process with
    Keras on TensorFlow.

    It must be a function of a module, and its arguments and result must be picklable. A model, its
    generator or its predictor among the keyword arguments is left out: the other process loads the
    bundle.
    """

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        if keras.backend.backend() == "tensorflow":
            return function(*arguments, **options)
        given = {k: v for k, v in options.items() if not isinstance(v, _LEFT_OUT)}
        return _call_elsewhere(function.__module__, function.__name__, arguments, given)

    return call


def _call_elsewhere(module: str, name: str, arguments: tuple, options: dict[str, Any]) -> Any:
    """Return the result of a function of a module, called in a process of its own.

    Raises:
        RuntimeError: the process ended without one.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "call"), Path(folder, "outcome")
        asked.write_bytes(pickle.dumps((module, name, arguments, options)))
        environment = {
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "TFX_LANGUAGE": wording.language(),
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        }
        sys.stdout.flush()
        command = [sys.executable, "-c", _SCRIPT, str(asked), str(answered)]
        status = subprocess.run(command, env=environment, check=False).returncode
        if not answered.exists():
            raise RuntimeError(f"the process that exports ended with status {status}.")
        result, error = pickle.loads(answered.read_bytes())
    if error is not None:
        raise error
    return result


def answer() -> None:
    """Make the call that the parent process requests, and write its result or its error."""
    asked, answered = map(Path, sys.argv[1:3])
    module, name, arguments, options = pickle.loads(asked.read_bytes())
    result = error = None
    try:
        result = getattr(importlib.import_module(module), name)(*arguments, **options)
    except Exception as raised:
        error = raised
    try:
        outcome = pickle.dumps((result, error))
    except Exception:  # errors of libraries may hold what cannot be pickled
        outcome = pickle.dumps((None, RuntimeError(str(error))))
    answered.write_bytes(outcome)
