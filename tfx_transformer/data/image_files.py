"""Image files of examples: those that can be used, and hashes of their bytes."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer.arguments import flag_for
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.images import check_image

# Endings of image names; the content of a file decides its format.
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})

# A longer path is probably a text in the wrong column.
_LONGEST_SHOWN = 300


def usable_images(
    found: Any,
    labels: Sequence[tuple[str, ...]],
    column: str | None,
    in_memory: bool,
    skip_bad_rows: bool = False,
) -> Any:
    """Return the images that can be decoded; the others join `bad_rows`, in the order of the rows,
    or are refused.

    Args:
        found: `LabelledImages`, or other examples that have `files`.
        labels: labels of each image, for `bad_rows`.
        column: column of their paths; None: they are those of a folder.
        in_memory: True for rows in memory, which may have any names: they keep their order, and
            paths start at the working folder instead of the table's.
        skip_bad_rows: see `labelled_image.read_labelled_images`.

    Raises:
        InputError: an image cannot be used; or none can.
    """
    base = "working folder" if in_memory else "folder of the table"
    problems = problems_of(found.files, base if column else "")
    bad = [i for i, problem in enumerate(problems) if problem]
    if bad and not skip_bad_rows:
        place = f"{found.path}, row {found.rows[bad[0]]}: " if column else ""
        flag = flag_for("skip_bad_rows")
        skip = f"\n  Or pass {flag} (skip_bad_rows=True) to leave out such images\n"
        skip += "  (they are then listed among the bad rows)."
        raise InputError(f"{place}{problems[bad[0]]}{skip if flag else ''}")
    if len(bad) == len(found):
        which = "its only image cannot" if len(bad) == 1 else f"none of its {len(bad)} images can"
        raise InputError(f"{found.path}: {which} be used.\n  {problems[0]}")
    bad_rows = found.bad_rows + [
        BadRow(
            found.rows[i],
            column,
            problems[i].partition("\n")[0].removesuffix("."),
            (str(found.files[i]), *labels[i]),
        )
        for i in bad
    ]
    if not in_memory:
        bad_rows.sort(key=lambda row: row.row)
    kept = found.take([i for i, problem in enumerate(problems) if not problem])
    return dataclasses.replace(kept, bad_rows=bad_rows)


def problems_of(files: Iterable[Any], base: str) -> list[str]:
    """Return for each image the text of an `InputError` if it cannot be used, else "".

    Args:
        files: paths, or pixels.
        base: name of the folder where paths start; "": they are those of a folder.
    """
    return in_threads(functools.partial(_problem, base=base), files)


def image_digests(files: Sequence[Any]) -> list[str]:
    """Return a hash of the bytes of each image file: equal for copies, whatever their names."""
    return in_threads(_digest, files)


def in_threads(function: Callable, arguments: Iterable) -> list:
    """Apply a function on all cores: files are read and decoded outside Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, arguments))


def _digest(file: Any) -> str:
    if isinstance(file, np.ndarray):
        return hashlib.sha256(f"{file.shape}".encode() + file.tobytes()).hexdigest()
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _problem(file: Any, base: str) -> str:
    """Return the text of an InputError if an image cannot be used, else ""."""
    if isinstance(file, np.ndarray):
        return ""
    # os.path returns False, without an error, for a text that cannot be a path.
    if os.path.isdir(file):
        where = "." if base else "; the folder of a label has its images directly inside."
        return f"{file}: this is a folder.\n  Expected an image{where}"
    if not os.path.exists(file):
        return _missing(file, base)
    try:
        check_image(file)
    except InputError as error:
        return str(error)
    return ""


def _missing(file: Path, base: str) -> str:
    if not base:
        return f"{file}: there is no such file.\n  If it is a broken link, repair or remove it."
    name = str(file)
    name = name if len(name) <= _LONGEST_SHOWN else f"{name[: _LONGEST_SHOWN - 1]}…"
    if not os.path.isdir(file.parent):
        folder = str(file.parent)[:_LONGEST_SHOWN]
        return f"{name}: there is no folder {folder}.\n  Paths start at the {base}."
    names = [entry.name for entry in file.parent.iterdir()]
    nearest = difflib.get_close_matches(file.name[:_LONGEST_SHOWN], names, n=1, cutoff=0.0)
    hint = f"The nearest name in that folder is {nearest[0]!r}. " if nearest else ""
    return f"{name}: there is no such file.\n  {hint}Paths start at the {base}."
