"""The measurements of `limited.py`, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def outcomes_of(module: str, **variables: str) -> dict[str, dict[str, Any]]:
    """Return the measurements of `limited.py` of a module of cases, by their names.

    variables: of the environment of the process.
    """
    command = [sys.executable, HERE / "limited.py", module, "--json"]
    environment = os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    found = map(json.loads, done.stdout.splitlines())
    return {outcome["name"]: outcome for outcome in found}
