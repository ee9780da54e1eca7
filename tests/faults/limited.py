"""Runs what must be refused, each case in a process of its own with little time and 500 MB.

    python tests/faults/limited.py hostile_templates
    python tests/faults/limited.py hostile_files
    python tests/faults/limited.py hostile_images

A module of cases has `SECONDS`, of computing, which each may take, and `CASES`: by name a function
that is given an empty folder, prepares what is hostile in it, and returns a function to call, which
is to raise an InputError; in a module with `MAY_ANSWER` it may return as well.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODULES = ("hostile_templates", "hostile_files", "hostile_images", "hostile_patterns")
MEGABYTES = 500
# What does not end by itself is ended by the kernel.
_DEADLINE = 30


def outcomes(module: str) -> Iterator[dict[str, Any]]:
    """Of every case: its `name`; what the refusal `said`, or None and the `error` that happened
    instead; `seconds` and `megabytes` it took; whether all that is `good`."""
    cases = importlib.import_module(module)
    for name, prepare in cases.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            action = prepare(Path(folder))
            found = {"seconds": 0, "megabytes": 0} | _outcome(action)
            if found["seconds"] >= cases.SECONDS:  # other programs on the machine slow memory down
                found = min(found, {"seconds": 0, "megabytes": 0} | _outcome(action), key=_seconds)
            good = found["said"] is not None or (
                getattr(cases, "MAY_ANSWER", False) and found["error"] is None
            )
            good = good and found["seconds"] < cases.SECONDS
            yield {"name": name, "good": good} | found


def _seconds(found: dict[str, Any]) -> float:
    return found["seconds"] or math.inf  # 0: it was ended


def _outcome(run: Callable[[], object]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with contextlib.suppress(BaseException):
            os.write(writing, json.dumps(_measured(run)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        written = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(written) if written else {"said": None, "error": f"ended with {status}"}


def _measured(run: Callable[[], object]) -> dict[str, Any]:
    """In this process, which then is of no use: its memory and its time are limited."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEGABYTES * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    spent = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + _DEADLINE, spent + _DEADLINE))
    begin, held = time.process_time(), _peak()
    said = error = None
    try:
        run()
    except InputError as refusal:
        said = str(refusal)
    except BaseException as other:
        error = f"{type(other).__name__}: {other}"
    seconds = time.process_time() - begin
    return {"said": said, "error": error, "seconds": seconds, "megabytes": _peak() - held}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each case")
    chosen = parser.parse_args()
    found = []
    for outcome in outcomes(chosen.module):
        found.append(outcome)
        if chosen.json:
            print(json.dumps(outcome), flush=True)
            continue
        said = (outcome["said"] or f"*** {outcome['error']}").split("\n")[0]
        if outcome["said"] is None and outcome["error"] is None:
            said = "is read"
        line = (
            f"{outcome['seconds']:6.3f} s  {outcome['megabytes']:4} MB  {outcome['name']}: {said}"
        )
        print(line[: shutil.get_terminal_size().columns], flush=True)
    good = sum(outcome["good"] for outcome in found)
    if not chosen.json:
        print(f"{good} of {len(found)} good in time and {MEGABYTES} MB each")
    sys.exit(0 if good == len(found) else 1)


if __name__ == "__main__":
    main()
