"""A page that runs a bundle in the browser, by LiteRT.js.

`index.html` has the page, its script and a worker. The TFLite file and LiteRT.js are in it, or in
files next to it. Nothing is loaded from elsewhere, and nothing is sent.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import bundle, files, model_card
from tfx_transformer.errors import InputError
from tfx_transformer.page import card
from tfx_transformer.page.assembly import MARK, page_text
from tfx_transformer.page.kinds import Parts, describe
from tfx_transformer.page.litert_js import BUILDS, VERSION, LiteRTjs
from tfx_transformer.report.html import Html

__all__ = ["INDEX", "page_files", "single_page", "write_page", "write_single"]

INDEX = "index.html"
_MODEL = "model.tflite"
# The page that is one file holds the one build that runs in all browsers.
_SINGLE_BUILDS = ("compat",)
# Bytes that a browser takes as one text.
_MOST_SINGLE_BYTES = 256 << 20


def page_files(
    path: str | os.PathLike,
    variant: str | None = None,
    litert_js: str | os.PathLike | None = None,
) -> dict[str, bytes]:
    """Return the files of a bundle's page by name: `index.html` and the files that it loads.

    Args:
        path: the bundle's folder.
        variant: "float32", "int8", "int4" or "full_int8"; None: the first that the bundle has.
        litert_js: path of the npm package @litertjs/core; None: the cache, see `litert_js`.

    Raises:
        InputError: the bundle is damaged, has no such TFLite file, or does not run in a page; or
            LiteRT.js cannot be found or downloaded.
    """
    content = _read(Path(path), variant)
    runtime = LiteRTjs(litert_js)
    spec = content.spec | {"builds": list(BUILDS)}
    index = page_text(spec, content.card, runtime.module()).encode()
    return {INDEX: index, _MODEL: content.model, **_runtime_files(runtime, BUILDS)}


def single_page(
    path: str | os.PathLike,
    variant: str | None = None,
    litert_js: str | os.PathLike | None = None,
) -> bytes:
    """Return a bundle's page as one HTML file, which opens from a disk too.

    Arguments and errors are those of `page_files`.
    """
    content = _read(Path(path), variant)
    if len(content.model) > _MOST_SINGLE_BYTES:
        raise InputError(
            f"{path}: the model has {len(content.model):,} bytes, too many for one HTML file.\n"
            f"  Expected {_MOST_SINGLE_BYTES:,} at most. Save a folder, or a smaller --variant."
        )
    runtime = LiteRTjs(litert_js)
    spec = content.spec | {"builds": list(_SINGLE_BUILDS)}
    # Weights hardly compress, so the fastest level suffices.
    held = {_MODEL: gzip.compress(content.model, 1, mtime=0)}
    held |= _runtime_files(runtime, _SINGLE_BUILDS)
    return page_text(spec, content.card, runtime.module(), held).encode()


def write_page(content: dict[str, bytes], folder: str | os.PathLike) -> Path:
    """Write the files of `page_files` into a folder, and replace an old page there.

    Returns: the path of `index.html`.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    folder = Path(folder)
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not empty and not (folder.is_dir() and _is_ours(folder / INDEX)):
        raise InputError(f"{folder} holds something other than a page.\n  Choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            if name != INDEX:
                files.write(folder / name, data)
        files.write(folder / INDEX, content[INDEX])  # last, after the files that it loads
        for old in folder.iterdir():
            if old.name not in content:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    return folder / INDEX


def write_single(content: bytes, file: str | os.PathLike) -> Path:
    """Write the page of `single_page`, and return its path.

    Raises:
        InputError: another file is there, or it cannot be written.
    """
    file = Path(file)
    if file.exists() and not _is_ours(file):
        raise InputError(f"{file} is something other than a page.\n  Choose another name.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write(file, content)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from error
    return file


def _is_ours(file: Path) -> bool:
    with contextlib.suppress(OSError), file.open("rb") as opened:
        return MARK.encode() in opened.read(4096)
    return False


class _Content(NamedTuple):
    """The parts of a bundle that a page holds: its description, its card, its TFLite file."""

    spec: dict[str, Any]
    card: Html
    model: bytes


@bundle.consistent_read
def _read(path: Path, variant: str | None) -> _Content:
    values = bundle.read_config(path)
    present = [name for name, file in bundle.LITERT.items() if (path / file).is_file()]
    if variant is None and present:
        variant = present[0]
    models = [bundle.LITERT[variant]] if variant in present else []
    bundle.verify(path, [bundle.CONFIG, *bundle.TOKENIZER_FILES, "README.md", *models])
    spec = describe(Parts(path, values))
    if not models:
        raise InputError(
            f"{path} holds no {variant or 'TFLite'} file for LiteRT; it has: "
            f"{', '.join(present) or 'none'}.\n"
            f"  Make one: tfx-transformer export {path} --to litert"
        )
    model = (path / models[0]).read_bytes()
    readme = path / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    return _Content(
        spec | _shown(path, values, spec["kind"], f"{len(model) / 1e6:.1f} MB, {variant}"),
        card.to_html(model_card.body(text)),
        model,
    )


def _shown(path: Path, values: dict[str, Any], kind: str, size: str) -> dict[str, Any]:
    """Return the visible parts of a bundle's description: name, size, versions, examples."""
    example = values.get("example") or ""
    examples = [example] if isinstance(example, str) else list(example)
    return {
        "name": path.resolve().name,
        "model": _MODEL,
        "size": size,
        "version": str((values.get("versions") or {}).get("tfx-transformer", "")),
        "litert": VERSION,
        "columns": list(values.get("columns") or [""] * values.get("text_columns", 1)),
        "examples": [] if kind == "image" else examples,
    }


def _runtime_files(runtime: LiteRTjs, builds: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for build in builds:
        script = runtime.script(build).encode()
        found[f"litert.{build}.js.gz"] = gzip.compress(script, 6, mtime=0)
        found[f"litert.{build}.wasm.gz"] = runtime.wasm(build)
    return found
