"""The comparison of a TFLite file on a GPU with the same file on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tfx_transformer.config import TransformerConfig

# Seconds: a delegate compiles for some seconds, with a software Vulkan for up to a minute.
_PATIENCE = 180

# Largest difference of right outputs, relative to their deviation: GPUs compute in half precision,
# and the CPU rounds the activations of int8 files too. Wrong outputs differ far more.
_HOLDS = 0.3

# The GPU devices of Linux and Android.
_DEVICES = ("dri/renderD128", "dri/renderD129", "nvidia0", "kgsl-3d0", "mali0", "dxg")

# A Vulkan driver that the user names here is tried, even a software one.
_DRIVERS = ("VK_ICD_FILENAMES", "VK_DRIVER_FILES")


def compare_gpu(file: Path, config: TransformerConfig) -> dict[str, Any] | None:
    """Run every signature of a TFLite file on a GPU and on the CPU, in a process of its own, as a
    driver may crash or hang.

    Args:
        file: a file that `export.litert` wrote.
        config: configuration of the model.

    Returns: None without an accelerator. Else "device", its name; "largest_difference" of any
        output, relative to the output's standard deviation; "signature", where that is; the number
        of "operations", and of those that stay on the CPU, "operations_on_cpu". If it failed,
        "error".
    """
    if not _has_accelerator():
        return None
    request = {
        "file": str(file),
        "vocabulary_size": config.vocabulary_size,
        "padding_id": config.padding_id,
        "context": config.max_sequence_length,
    }
    script = str(Path(__file__).with_name("compare_gpu.py"))
    try:
        done = subprocess.run(
            [sys.executable, "-P", script],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_PATIENCE} seconds"}
    log = done.stderr
    adapter = re.search(r"Selected adapter: (.*?), arch=.*?adapterType=(\w+)", log)
    if adapter is None or (adapter[2] == "CPU" and not _names_driver()):
        return None  # no driver, or a software driver that the user did not name
    if done.returncode:
        return {"device": adapter[1], "error": _why(done.returncode, log)}
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("{")]  # LiteRT's too
    return {"device": adapter[1]} | _summary(json.loads(answer), log)


def sentence(found: dict[str, Any]) -> str:
    """Return a result of `compare_gpu` in words."""
    device = found.get("device", "GPU")
    if "error" in found:
        return f"on {device} it does not run: {found['error']}"
    largest = found["largest_difference"]
    word = "as" if largest <= _HOLDS else "OTHERWISE than"
    return (
        f"on {device} it answers {word} on the CPU: outputs differ by at most {largest:.1e} of "
        "their deviation; "
        f"{found['operations_on_cpu']} of {found['operations']} operations stay on the CPU"
    )


def _summary(answer: dict[str, Any], log: str) -> dict[str, Any]:
    differences = answer["differences"]
    worst = max(differences, key=differences.get)
    left = re.findall(r"operations will run on the GPU, .*?remaining (\d+)", log)
    return {
        "largest_difference": float(f"{differences[worst]:.2g}"),
        "signature": worst,
        "operations_on_cpu": 0 if answer["whole"] else sum(map(int, left)),
        "operations": answer["operations"],
    }


def _has_accelerator() -> bool:
    """Return True if there seems to be an accelerator; nothing is started to find out."""
    package = importlib.util.find_spec("ai_edge_litert")
    if package is None or package.origin is None:
        return False
    if not list(Path(package.origin).parent.glob("libLiteRt*Accelerator.*")):
        return False
    if sys.platform != "linux" or _names_driver():
        return True
    return any(os.path.exists(os.path.join("/dev", name)) for name in _DEVICES)


def _names_driver() -> bool:
    files = [os.environ.get(name, "") for name in _DRIVERS]
    return any(os.path.isfile(file) for entry in files for file in entry.split(os.pathsep))


def _why(status: int, log: str) -> str:
    if status < 0:
        return f"the driver ended the process with signal {-status}"
    lines = [line for line in log.splitlines() if line.strip()]
    return next((x for x in reversed(lines) if x.startswith("RuntimeError")), lines[-1])[:200]
