"""The machine and the versions that figures belong to."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import worker

PACKAGES = (
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "keras-hub",
    "torch",
    "transformers",
    "numpy",
)


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """The short name of the commit that is checked out, with "+" if files differ from it."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def describe() -> dict[str, Any]:
    """This machine now."""
    installed = worker.versions(PACKAGES)
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version for name, version in installed.items() if version},
        "commit": commit(),
    }


def hardware(described: dict[str, Any]) -> tuple:
    """The facts that two runs must share to be compared."""
    return described["processor"], described["cores"], described["system"]
