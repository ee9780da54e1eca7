"""The `tfx-transformer` command for tables of scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Settings

ROOT = Path(__file__).resolve().parent.parent
QUICK_MINUTES = "0.1"


def tool(settings: Settings, *arguments: str, shown: bool = False) -> dict[str, Any]:
    """The JSON that `tfx-transformer ARGUMENTS --json` prints, run in the folder for work.

    Args:
        shown: show its progress instead of keeping it for the error.

    Raises:
        RuntimeError: it failed; the error has its last lines.
    """
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "tfx_transformer.cli", *arguments, "--json"],
        cwd=settings["work"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        stdout=subprocess.PIPE,
        stderr=None if shown else subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        tail = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise RuntimeError(f"tfx-transformer {' '.join(arguments[:2])}: {tail or 'see above'}")
    return json.loads(done.stdout)


def data(settings: Settings, arguments: Sequence[str]) -> list[str]:
    """The arguments, "DATA/..." being a path below the folder of `--data`."""
    return [
        str(Path(settings["data"], argument.removeprefix("DATA/")))
        if argument.startswith("DATA/")
        else argument
        for argument in arguments
    ]


def bundle(settings: Settings, recipe: str, name: str, *arguments: str) -> str:
    """The folder of a bundle, which the recipe trains unless it is there."""
    folder = Path(settings["work"], "saved_models", name)
    if not folder.exists():
        train(settings, recipe, name, *data(settings, arguments))
    return str(folder)


def train(settings: Settings, recipe: str, name: str, *arguments: str, shown: bool = False) -> None:
    """Train a bundle; an interrupted training goes on. `shown`: see `tool`."""
    quick = ("--minutes", QUICK_MINUTES) if settings["quick"] else ()
    tool(settings, "run", recipe, *arguments, "--name", name, *quick, shown=shown)


def minutes(folder: str) -> float:
    """The time that the training of a bundle took, without exports."""
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    return round(config["training"]["seconds"] / 60, 1)


def engine_flags(engine: str, variant: str) -> list[str]:
    return ["--engine", engine] + (["--variant", variant] if engine == "litert" else [])


def megabytes(folder: str, engine: str, variant: str) -> dict[str, float]:
    """The size of the TFLite file, if it is one that runs."""
    if engine != "litert":
        return {}
    name = "model.tflite" if variant == "float32" else f"model.{variant}.tflite"
    return {"file, MB": round(Path(folder, name).stat().st_size / 1e6, 2)}
