"""run.pyz: the part of the package without TensorFlow, as one file that runs its bundle."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipapp
from pathlib import Path

PARTS = (
    "__init__.py",
    "errors.py",
    "console.py",
    "arguments.py",
    "flags.py",
    "files.py",
    "installation.py",
    "json_files.py",
    "reprs.py",
    "registration.py",
    "renamed.py",
    "config.py",
    "bundle.py",
    "images.py",
    "prediction",
    "runtime",
    "text",
    "generation",
)

# Time of its files, in seconds: the beginning of 2000.
_WRITTEN = 946_684_800

# The code that runs first: packages may be missing, and Python may be old.
_MAIN = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("run.pyz needs Python 3.11 or newer; this is %d.%d." % sys.version_info[:2])
try:
    from tfx_transformer.runtime import main

    main()
except ModuleNotFoundError as error:
    name = error.name or ""
    if name.startswith("tfx_transformer"):
        raise
    sys.stderr.write("run.pyz needs the package %s.\\n" % name)
    extra = " " + name if name in ("tokenizers", "sentencepiece") else ""
    sys.stderr.write("  pip install ai-edge-litert numpy tiktoken%s\\n" % extra)
    sys.exit(2)
"""


def write_run_pyz(folder: Path) -> None:
    """Write `run.pyz` into a bundle's folder; it needs ai-edge-litert, NumPy and tiktoken."""
    package = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        target = Path(temporary, "app", package.name)
        target.mkdir(parents=True)
        for part in PARTS:
            if (package / part).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(package / part, target / part, ignore=ignore)
            else:
                shutil.copy(package / part, target / part)
        (target.parent / "__main__.py").write_text(_MAIN, encoding="utf-8")
        for file in target.parent.rglob("*"):  # the same sources make the same bytes
            os.utime(file, (_WRITTEN, _WRITTEN))
        made = Path(temporary, "run.pyz")
        zipapp.create_archive(
            target.parent, made, interpreter="/usr/bin/env python3", compressed=True
        )
        (folder / "run.pyz").unlink(missing_ok=True)
        shutil.copy(made, folder / "run.pyz")
