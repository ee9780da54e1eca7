"""The paths of recipes and small data sets: in a checkout, or in an installed package."""

from __future__ import annotations

import difflib
from pathlib import Path

from tfx_transformer.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def recipes() -> list[Path]:
    """Return all recipe scripts, sorted by name."""
    return sorted(_folder("recipes").glob("[!_]*.py"))


def recipe_path(name: str) -> Path:
    """Return the script of a recipe, such as `translation`.

    Raises:
        InputError: there is no such recipe; the message names the nearest one.
    """
    return _find("recipe", name, {path.stem: path for path in recipes()})


def dataset_path(name: str) -> Path:
    """Return the path of a data set, a file or folder, by its name, such as `en_ja.csv`.

    Raises:
        InputError: there is no such file; the message names the nearest one.
    """
    folder = _folder("datasets")
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return _find("data set", name, found)


def _folder(name: str) -> Path:
    """Return `_recipes` in the package if it was installed from a wheel, else `recipes` next to it;
    for "datasets" likewise."""
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parent / name


def _find(kind: str, name: str, found: dict[str, Path]) -> Path:
    if name in found:
        return found[name]
    nearest = difflib.get_close_matches(name, found, n=1, cutoff=0)
    hint = f"The nearest is {nearest[0]!r}." if nearest else f"No {kind} is installed."
    raise InputError(f"There is no {kind} {name!r}.\n  {hint}")
