"""The user's data and machine in a bundle: labels and vocabulary, and nothing else."""

import getpass
import json
import socket
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import tfx_transformer

# A text that is this long is a row; shorter ones may be tokens of the vocabulary or labels.
LONG = 20


def leaks(path: Path, rows: Iterable[str], folder: Path) -> list[str]:
    """Return which files of a bundle hold a row of the data, or a path or a name of this machine.

    Args:
        path: of the bundle.
        rows: texts of the data; those of at least `LONG` characters are looked for.
        folder: where the recipe ran.
    """
    rows = {row for row in rows if len(row) >= LONG}
    assert rows, "nothing to look for"
    places = {folder, Path(tempfile.gettempdir(), "tmp"), Path(tfx_transformer.__file__).parents[1]}
    places = {str(place) for place in places} | {f"pytest-of-{getpass.getuser()}"}
    names = {getpass.getuser(), socket.gethostname()}
    secrets = rows | places | {name for name in names if rare(name)}
    forms = {secret: spellings(secret) for secret in secrets}
    return [
        f"{name}: {secret!r}"
        for name, content in contents(path)
        for secret, spelled in forms.items()
        if any(one in content for one in spelled)
    ]


def rare(name: str) -> bool:
    """Return True if a name of a user or machine is not a word that programs use."""
    return len(name) > 5


def spellings(text: str) -> set[bytes]:
    """A text as UTF-8, UTF-16 and JSON, and what JSON in JSON makes of it."""
    escaped = json.dumps(text)[1:-1]
    quoted = json.dumps(text, ensure_ascii=False)[1:-1]
    texts = {text, escaped, quoted, json.dumps(escaped)[1:-1]}
    return {one.encode() for one in texts} | {text.encode("utf-16-le")}


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, and of what is in archives."""
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        name = file.relative_to(path).as_posix()
        yield name, file.read_bytes()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield name, repr(archive.infolist()).encode()
                for member in archive.namelist():
                    yield f"{name}/{member}", archive.read(member)
