"""The measurements of `limited.py`, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def outcomes_of(module: str) -> dict[str, dict[str, Any]]:
    """Return the measurements of `limited.py` of a module of cases, by their names."""
    command = [sys.executable, HERE / "limited.py", module, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    found = map(json.loads, done.stdout.splitlines())
    return {outcome["name"]: outcome for outcome in found}
