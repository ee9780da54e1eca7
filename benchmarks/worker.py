"""The process of one system: `python -m benchmarks.worker MODULE SYSTEM SETTINGS`.

Writes one JSON object a line: first "missing" (packages), "error", "scores" or "ready" (versions);
then, for each line "SECONDS" on standard input, "value", the units a second of a timing that takes
at least so long. It ends with its input.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks import tables


def versions(packages) -> dict[str, str | None]:
    """The installed version of each package; None: not installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def timing(step: Callable[[], float], seconds: float) -> float:
    """Units a second of as many steps as fill the seconds, one at least."""
    begin = now = time.perf_counter()
    units = 0.0
    while units == 0 or now - begin < seconds:
        units += step()
        now = time.perf_counter()
    return units / (now - begin)


def serve(module: str, name: str, settings: tables.Settings, say: Callable[[dict], None]) -> None:
    table = tables.load(module)
    system = table.system(name)
    installed = versions(system.packages)
    missing = [package for package, version in installed.items() if version is None]
    if missing:
        say({"missing": missing})
        return
    built: Any = system.build(settings)
    if table.unit is None:
        say({"scores": built, "versions": installed})
        return
    built()  # traces and compiles
    say({"ready": True, "versions": installed})
    for line in sys.stdin:
        say({"value": timing(built, float(line))})


def main() -> None:
    module, name, settings = sys.argv[1:]
    # What libraries print goes to standard error, so that the answers stay lines of JSON.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        serve(module, name, json.loads(settings), say)
    except Exception as error:
        traceback.print_exc()
        say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
