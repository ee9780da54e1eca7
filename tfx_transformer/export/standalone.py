"""run.pyz: the TensorFlow-free half of the package as one file that runs the bundle it lies in."""

from __future__ import annotations

import shutil
import tempfile
import zipapp
from pathlib import Path

PARTS = (
    "__init__.py",
    "errors.py",
    "flags.py",
    "files.py",
    "json_files.py",
    "reprs.py",
    "config.py",
    "bundle.py",
    "images.py",
    "prediction",
    "runtime",
    "text",
    "generation",
)


def write_run_pyz(folder: Path) -> None:
    """Writes `run.pyz` into a bundle's folder; needs ai-edge-litert, NumPy and tiktoken to run."""
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
        made = Path(temporary, "run.pyz")
        zipapp.create_archive(
            target.parent,
            made,
            interpreter="/usr/bin/env python3",
            main="tfx_transformer.runtime:main",
            compressed=True,
        )
        (folder / "run.pyz").unlink(missing_ok=True)
        shutil.copy(made, folder / "run.pyz")
