"""The files of a base that is given by name: from Hugging Face's cache, a package, or the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

from tfx_transformer import bases
from tfx_transformer.bases import Base
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.hub import base_folder

_WEIGHTS = "model.safetensors"
# A name of a base, or one with a mistake; a path or another source has other signs.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def locate(source: str) -> str:
    """Return the source that the name of a base stands for; another source as it is.

    A file or folder of that name comes first. Then it is "hf://owner/name" if its weights are in
    Hugging Face's cache, else the folder of an installed package that has them, else
    "hf://owner/name" to be fetched.

    Raises:
        InputError: it is a name without a path, but not of a base; or the package has other weights
            than the hub.
    """
    if not _NAME.fullmatch(source) or Path(source).exists():
        return source
    base = bases.find(source)
    if base is None:
        raise bases.unknown(source)
    if base_folder(base.repository, Path()) is None and (folder := installed_folder(base)):
        return str(folder)
    return base.source


def installed_folder(base: Base) -> Path | None:
    """Return the folder of a base's files in its package; None: it is not installed, or incomplete.

    Nothing of the package is imported.

    Raises:
        InputError: its weights are not those on the hub.
    """
    module, _, inside = base.folder.partition("/")
    found = importlib.util.find_spec(module) if module else None
    for place in (found.submodule_search_locations or []) if found else []:
        folder = Path(place, inside)
        if (folder / _WEIGHTS).is_file() and (folder / "config.json").is_file():
            _check_weights(folder, base)
            return folder
    return None


def _check_weights(folder: Path, base: Base) -> None:
    with (folder / _WEIGHTS).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != base.sha256:
        raise InputError(
            f"the package {base.package} has other weights than {base.source}.\n"
            f"  {folder / _WEIGHTS} has the SHA-256 {found[:12]}…, expected {base.sha256[:12]}….\n"
            f"  Install it again, or uninstall it to fetch {base.source}."
        )
