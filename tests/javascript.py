"""Runs modules of the page in Node.js: what needs no browser."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tfx_transformer.page.assembly import joined

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "tfx_transformer" / "page" / "app"
MODULES = (
    "bytes.js",
    "pieces.js",
    "tokenizers.js",
    "sampling.js",
    "images.js",
    "tables.js",
    "zip.js",
    "words.js",
    "tags.js",
    "heads.js",
    "engine.js",
    "answers.js",
)


@functools.cache
def _program() -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    return node


def run(expression: str, data: Any) -> Any:
    """The value of an expression of JavaScript, in which `data` is given; both as JSON."""
    source = f"{joined(MODULES)}\nconst data = JSON.parse(require('fs').readFileSync(0));\n"
    source += f"process.stdout.write(JSON.stringify({expression}));\n"
    done = subprocess.run(
        [_program(), "-e", source],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
