"""The folder of a run: one run at a time writes there, and removes only files of runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas

from tfx_transformer import bundle, files, json_files
from tfx_transformer.errors import InputError
from tfx_transformer.report import REPORT, is_ours

LOCK = "lock"
CHECKPOINTS = "checkpoints"
# Those of the epochs with rounded weights, in the same folder.
ROUNDED = "rounded"
# The file that lists what runs have written into the folder.
MANIFEST = "files.json"
_SETTINGS = "settings.json"
# The files that the next run of the same name may use again: see `PreferenceRun.reference` and
# `AnswerFile`.
REFERENCE = "reference.npz"
ANSWERS = "teacher.bin"
TOKEN_ANSWERS = "teacher_tokens.bin"
_KEPT = (ANSWERS, REFERENCE, TOKEN_ANSWERS)

# Files that runs of the first version wrote, without a manifest.
_FIRST = frozenset(
    {
        _SETTINGS,
        "adapters.safetensors",
        "attention.png",
        "bad_rows.csv",
        "bad_rows_validation.csv",
        "calibration.png",
        "classes.csv",
        "confusion.png",
        "cost.json",
        "data.json",
        "lengths.png",
        "loss.png",
        "metrics.csv",
        "mistakes.csv",
        "previews.csv",
        "result.json",
        "samples.csv",
        "training.bin",
        "validation.bin",
    }
)
# Files that runs write.
_KNOWN = _FIRST | {
    "bad_rows_rehearsed.csv",
    "bad_rows_unlabelled.csv",
    "corrections.csv",
    "evaluation.json",
    "explanations.json",
    "exports.json",
    "mistakes.png",
    "pairs.csv",
    "predictions.csv",
    *_KEPT,
    REPORT,
    "run.json",
}
# Unfinished files that a killed process may leave: see `files.replacing`.
_UNFINISHED = re.compile(r"\.(.+)\.[0-9]+-[0-9a-f]{8}\.tmp")

# Names of devices on Windows, which also cuts off dots at the end.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³])(\..*)?$|.*\.$", re.IGNORECASE)

# Most bytes of a name: file systems allow 255, and temporary names are longer.
_LONGEST = 200

# The folders that this process holds. It may start a second run in one of them after the first.
_held: dict[Path, files.Lock] = {}


def check_name(name: str, flag: str = "name") -> None:
    """Raise if a name cannot be a folder's name: a path, or one with blanks or control characters.

    Raises:
        InputError: the name cannot be a folder's.
    """
    is_name = isinstance(name, str) and name and name.isprintable() and not name.startswith(".")
    if not is_name or any(c.isspace() or c in '/\\:*?"<>|' for c in name) or _RESERVED.match(name):
        raise InputError(f"{flag} {name!r} cannot be a folder's name.\n  Use letters, digits, - _")
    if len(name.encode()) > _LONGEST:
        raise InputError(
            f"{flag} {name[:20]!r}… is too long.\n  Expected at most {_LONGEST} bytes."
        )


def new_bundle_path(name: str, overwrite: bool, root: str = "saved_models") -> Path:
    """Return saved_models/<name>; an interrupted run of that name may replace what it wrote there.

    Raises:
        InputError: nothing may be written there.
    """
    check_name(name, "--name")
    path = Path(root, name)
    bundle.check_place(path, overwrite or Path("runs", name, CHECKPOINTS).is_dir())
    return path


def free_path(path: Path) -> Path:
    """Return a free path next to a bundle, such as saved_models/topics-2."""
    number = 2
    while (found := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return found


class RunFolder:
    """The folder of one run.

    Args:
        path: where it is, or will be made. A link to a folder is followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: list[str] = []

    def hold(self) -> None:
        """Make the folder if it is missing, and lock it until `release` or the process's end.

        Raises:
            InputError: another process holds it, or it cannot be written.
        """
        place = self.path.resolve()
        if place in _held and (place / LOCK).exists():
            return
        self.release()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _held[place] = files.Lock(self.path / LOCK).hold()
        except files.Held as held:
            raise InputError(
                f"{self.path}: another run, process {held.process}, is writing there now.\n"
                "  Wait for its end, or choose another --name."
            ) from held
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written: {error.strerror}.\n"
                "  Free disk space, allow writing there, or start in another folder."
            ) from error

    def release(self) -> None:
        """Let other processes write to the folder again."""
        lock = _held.pop(self.path.resolve(), None)
        if lock is not None:
            lock.release()

    def clear(self) -> None:
        """Remove the files that earlier runs wrote; `_KEPT` and all other files stay.

        Raises:
            InputError: a file that no run wrote has the name of a file that runs write.
        """
        recorded = self._read_manifest()
        if is_ours(self.path / REPORT):  # it may have been written again after the run
            recorded.add(REPORT)
        for name in sorted(_KNOWN | {MANIFEST}):
            path = self.path / name
            foreign = name not in recorded
            if (path.is_dir() and not path.is_symlink()) or (foreign and path.exists()):
                self.release()
                raise InputError(
                    f"{path} was not written by a run, and this one would replace it.\n"
                    "  Move it, or choose another --name."
                )
        kept = [name for name in _KEPT if name in recorded and (self.path / name).is_file()]
        for path in list(self.path.iterdir()):
            unfinished = _UNFINISHED.fullmatch(path.name)
            name = unfinished[1] if unfinished else path.name
            if path.name not in (MANIFEST, *kept) and name in recorded and not path.is_dir():
                path.unlink()
        self._written = kept
        self._write_manifest()

    def file(self, name: str) -> Path:
        """Return the path of a file to write, and add its name to the manifest."""
        if name not in self._written:
            self._written.append(name)
            self._write_manifest()
        return self.path / name

    def write_json(self, name: str, values: Any) -> None:
        """Write values as JSON; values that JSON does not have are written as `str` of them."""
        text = json.dumps(values, ensure_ascii=False, indent=2, default=str) + "\n"
        files.write(self.file(name), text)

    def write_table(self, name: str, table: pandas.DataFrame, **options: Any) -> None:
        """Write a table as CSV, without its index.

        Args:
            options: arguments of `pandas.DataFrame.to_csv`.
        """
        files.write(self.file(name), table.to_csv(**{"index": False, **options}))  # pyright: ignore

    def _write_manifest(self) -> None:
        text = json.dumps({"files": self._written}, ensure_ascii=False, indent=1)
        files.write(self.path / MANIFEST, text + "\n")

    def _has_checkpoints(self) -> bool:
        return any((self.path / CHECKPOINTS).glob("step_*"))

    def _read_manifest(self) -> set[str]:
        """Return the names of files that earlier runs wrote into the folder."""
        try:
            names = json_files.read_object(self.path / MANIFEST).get("files")
        except InputError:
            names = None
        if not isinstance(names, list):
            was_run = (self.path / _SETTINGS).is_file() or self._has_checkpoints()
            known = _KNOWN if (self.path / MANIFEST).is_file() else _FIRST
            return {*known, MANIFEST} if was_run else set()
        kept = {LOCK, CHECKPOINTS, MANIFEST}
        plain = {n for n in names if isinstance(n, str) and n == Path(n).name and n not in kept}
        return plain | {MANIFEST, "training.bin", "validation.bin"}  # see `data.read_corpus`
