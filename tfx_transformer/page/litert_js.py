"""LiteRT.js, which runs TFLite files in browsers: one version, downloaded once and cached.

The npm package has four builds of 9 MB each. They would make our wheel several times as large, and
nobody could review them there; so the package is downloaded when the first page is made, from the
npm registry, and its content must have the digest below. A page has the parts that it needs:
nothing is downloaded when a page is opened.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tfx_transformer import files
from tfx_transformer.errors import InputError

VERSION = "2.5.3"
_ARCHIVE = f"core-{VERSION}.tgz"
_URL = f"/@litertjs/core/-/{_ARCHIVE}"
_REGISTRY_NAME = "npm_config_registry"  # as npm calls it
_REGISTRY = "https://registry.npmjs.org"
# Of the archive, as the registry states it: sha512 in base64.
INTEGRITY = (
    "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ=="
)
_MAX_BYTES = 64 << 20

# Names of the builds: with relaxed SIMD (Chromium, Firefox), and for all browsers.
BUILDS = {"simd": "litert_wasm_internal", "compat": "litert_wasm_compat_internal"}
_MODULE = "dist/index.js"
_FILES = {_MODULE, *(f"wasm/{name}.{kind}" for name in BUILDS.values() for kind in ("js", "wasm"))}


class LiteRTjs:
    """The files of the npm package that a page needs.

    Args:
        source: a folder `node_modules/@litertjs/core`, or a folder `node_modules`, or the archive
            that `npm pack @litertjs/core@2.5.3` makes; None: the cache, filled when it is empty.

    Raises:
        InputError: the files are missing or of another version, or the download fails.
    """

    def __init__(self, source: str | os.PathLike | None = None) -> None:
        path = _cached() if source is None else Path(source)
        places = (path / "@litertjs" / "core", path / "node_modules/@litertjs/core", path)
        folder = next((place for place in places if (place / "package.json").is_file()), None)
        self._read: Callable[[str], bytes]
        self._read = _folder(folder) if folder else _archive(path)
        package = self._file("package.json").decode(errors="replace")
        if f'"version": "{VERSION}"' not in package or '"@litertjs/core"' not in package:
            raise InputError(
                f"{path} is not version {VERSION} of the npm package @litertjs/core.\n"
                f"  Fetch it: npm pack @litertjs/core@{VERSION}"
            )

    def _file(self, name: str) -> bytes:
        try:
            return self._read(name)
        except (OSError, KeyError) as error:
            raise InputError(
                f"LiteRT.js lacks the file {name}.\n"
                f"  Fetch it again: npm pack @litertjs/core@{VERSION}"
            ) from error

    def script(self, build: str) -> str:
        """Return the script that starts the WebAssembly of a build."""
        return self._file(f"wasm/{BUILDS[build]}.js").decode()

    def wasm(self, build: str) -> bytes:
        """Return the WebAssembly of a build, compressed by gzip: 3 MB instead of 9."""
        return gzip.compress(self._file(f"wasm/{BUILDS[build]}.wasm"), 6, mtime=0)

    def module(self) -> str:
        """Return the module `@litertjs/core` as a script that defines `LiteRT`."""
        text = self._file(_MODULE).decode()
        start, end = text.index("import { createWasmLib }"), text.rindex("export {")
        names = text[end:].partition("{")[2].partition("}")[0]
        body = text[:start] + _CREATE + text[start:end].partition("\n")[2]
        return f"const LiteRT = (() => {{\n{body}return {{{names}}};\n}})();\n"


# Replaces the function of @litertjs/wasm-utils, which adds a script to a document.
_CREATE = """async function createWasmLib(LiteRt) {
  return new LiteRt(await ModuleFactory(self.Module));
}
"""


def _folder(path: Path) -> Callable[[str], bytes]:
    return lambda name: (path / name).read_bytes()


def _archive(path: Path) -> Callable[[str], bytes]:
    """Return a function that reads a file of an npm archive, `.tgz`, by its name."""
    try:
        with tarfile.open(path) as archive:
            wanted = {f"package/{name}": name for name in (*_FILES, "package.json")}
            found = {
                wanted[member.name]: archive.extractfile(member).read()
                for member in archive
                if member.name in wanted and member.isfile() and member.size < _MAX_BYTES
            }
    except (OSError, tarfile.TarError, EOFError) as error:
        raise InputError(
            f"{path} is neither a folder of the npm package @litertjs/core nor its archive.\n"
            f"  Fetch it: npm pack @litertjs/core@{VERSION}"
        ) from error
    return found.__getitem__


def _cached() -> Path:
    """Return the archive in the cache of this user; download it if it is not there."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(root) / "tfx_transformer" / f"litertjs-{_ARCHIVE}"
    if path.is_file() and _integrity(path.read_bytes()) == INTEGRITY:
        return path
    content = _download()
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, content)
    return path


def _download() -> bytes:
    registry = os.environ.get(_REGISTRY_NAME) or _REGISTRY
    address = registry.rstrip("/") + _URL
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            content = answer.read(_MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"LiteRT.js cannot be downloaded from {address}: {reason}\n"
            f"  On a machine with a network: npm pack @litertjs/core@{VERSION}. Copy the file\n"
            f"  here, and pass --litert-js litertjs-{_ARCHIVE}."
        ) from error
    if _integrity(content) != INTEGRITY:
        raise InputError(
            f"{address} is not the expected archive: its sha512 differs.\n"
            "  Try another network or registry (npm_config_registry); what came was not kept."
        )
    return content


def _integrity(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()
