"""Making an index of the rows of tables, and renewing it when they change."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer import bundle, files, runtime
from tfx_transformer.data.formats import TableFile
from tfx_transformer.data.tables import BadRow, find_columns, stream_table, write_bad_rows
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.text import TextEmbedder
from tfx_transformer.search import nearest, store
from tfx_transformer.search.store import Entry, RowWriter, Store, Unfinished

# Rows of an index up to which every vector is compared; beyond it a graph finds the nearest.
EXACT_ROWS = 100_000
# Rows that are read and embedded at a time. A killed command loses the work of one such part.
_CHUNK = 512
# Vectors that are copied at a time.
_COPIED = 65_536
_BAD_ROWS = "bad_rows.csv"
# Facts that all rows of an index share, and their names in messages.
_FIXED = {
    "column": "--column",
    "shown": "--show",
    "dtype": "--dtype",
    "dimensions": "--width",
    "model": "bundle or prompt",
}


class Progress(NamedTuple):
    """The progress of an index. rows: read; new: embedded; graph: vectors in the graph."""

    rows: int
    new: int
    graph: int = 0


class Made(NamedTuple):
    """An index that was made.

    rows: of the index; new: texts that were embedded for it; bad_rows: rows that were left out;
    cut: embedded texts with as many tokens as the model reads, or more, whose other tokens are not
    searched; has_graph: True if a graph finds the nearest.
    """

    rows: int
    new: int
    bad_rows: int
    cut: int
    has_graph: bool


def make_index(
    folder: str | os.PathLike[str],
    bundle_path: str | os.PathLike[str],
    tables: Sequence[str | os.PathLike[str]],
    column: str = "text",
    *,
    shown: Sequence[str] = (),
    prompt: str | None = None,
    dtype: nearest.Dtype = "float16",
    width: int | None = None,
    variant: str | None = None,
    append: bool = False,
    skip_bad_rows: bool = False,
    progress: Callable[[Progress], None] = lambda done: None,
) -> Made:
    """Make an index of a column of tables, or renew it; only texts that it does not have are
    embedded. A call that was interrupted goes on when it is repeated.

    Args:
        folder: of the index; a new or empty folder, or that of an index.
        bundle_path: folder of an embedder's bundle, with a TFLite file.
        tables: files of any format (see `data.formats`).
        column: column of the texts.
        shown: further columns, which are shown with a row that is found.
        prompt: name of the embedder's prompt to put before each text; None: "document", if it has
            that, else its default.
        dtype: of the stored vectors: "float16" and "int8" take a half and a quarter of "float32".
        width: numbers of each vector, one of the widths that the embedder was trained for; None:
            all.
        variant: TFLite file to run; None: the first in the bundle.
        append: keep the rows of other tables that the index has.
        skip_bad_rows: leave out rows that cannot be used, and list them in the folder.
        progress: is called after each batch of rows.

    Raises:
        InputError: the bundle is not an embedder, a table cannot be read, `dtype` is another one,
            or another command writes the index.
    """
    folder, bundle_path = Path(folder), Path(bundle_path)
    if dtype not in nearest.DTYPES:
        known = ", ".join(nearest.DTYPES)
        raise InputError(f"dtype is {dtype!r}.\n  Expected one of {known}.")
    _check_folder(folder, tables)
    for table in tables:
        find_columns(table, _roles(column, shown))
    model = open_embedder(bundle_path, variant)
    model.check_width(width)
    prompt = model.config.prompt_name("document") if prompt is None else prompt
    facts = {
        "bundle": relative(bundle_path, folder),
        "column": column,
        "shown": list(shown),
        "dtype": dtype,
        "dimensions": width or model.config.vector_dim,
        "model": model_facts(bundle_path, variant) | {"prompt": model.config.prompt(prompt)},
    }
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = files.Lock(folder / ".lock").hold()
    except files.Held as held:
        raise InputError(
            f"{folder}: another command, process {held.process}, is writing this index.\n"
            "  Wait for its end, or choose another folder."
        ) from held
    try:
        building = _Building(folder, model, facts, append, skip_bad_rows, progress)
        return building.run(tables)
    finally:
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing is in it


def _roles(column: str, shown: Sequence[str]) -> dict[str, str]:
    """Return role -> name of each column that an index reads."""
    return {"column": column} | {f"shown {i}": name for i, name in enumerate(shown, start=1)}


def _check_folder(folder: Path, tables: Sequence[Any]) -> None:
    """Raise if an index of tables cannot be written to a folder, before anything is computed."""
    if not tables:
        raise InputError("there is no table to index.\n  Name one or more.")
    named = [_table_facts(table, folder) for table in tables]
    for (_, first), (table, second) in itertools.combinations(zip(tables, named, strict=True), 2):
        if _is_same(first, second):
            raise InputError(f"{table} is named twice.\n  Name each table once.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file.\n  Name a folder.")
    if folder.is_dir() and not (folder / store.FACTS).is_file():
        others = [file for file in folder.iterdir() if not store.may_be_left(file.name)]
        if others:
            raise InputError(
                f"--out {folder} is not an index, and has other files, such as {others[0].name}.\n"
                "  Name a new folder."
            )


def _table_facts(table: str | os.PathLike[str], folder: Path) -> dict[str, Any]:
    """Return the facts by which an index knows a table again, see `Store.tables`."""
    part = (table.sheet or table.table) if isinstance(table, TableFile) else ""
    return {"path": relative(Path(table), folder)} | ({"part": part} if part else {})


def _is_same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Return True if two facts are of the same table. A file without a part is all its parts."""
    parts = {facts.get("part", "") for facts in (first, second)}
    return first["path"] == second["path"] and (len(parts) == 1 or "" in parts)


def open_embedder(
    path: Path, variant: str | None = None, threads: int | None = None
) -> TextEmbedder:
    """Return the embedder of a bundle on LiteRT.

    Raises:
        InputError: its model is not an embedder; others see `runtime.load`.
    """
    model = runtime.load(path, variant, threads)
    if not isinstance(model, TextEmbedder):
        raise InputError(
            f"{path} is not an embedder, so it has no vectors to search by.\n"
            "  Train one: tfx-transformer run embedding"
        )
    return model


def model_facts(path: Path, variant: str | None) -> dict[str, Any]:
    """Return the checksums of the files of a bundle that decide the vectors of texts, and the name
    of its TFLite file.

    Args:
        variant: TFLite file; None: the first in the bundle.
    """
    sums = bundle.listed_sums(path)
    present = {name: file for name, file in bundle.LITERT.items() if file in sums}
    variant = variant or next(iter(present))
    read = [present.get(variant, ""), *bundle.TOKENIZER_FILES]
    return {"files": {name: sums[name] for name in read if name in sums}, "variant": variant}


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, behind links to either; on Windows the whole path if it
    is on another drive."""
    path = path.parent.resolve() / path.name  # a link itself stays: it may get another target
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:
        return str(path)


def _open_old(folder: Path, needed: bool) -> Store | None:
    """Return the index in a folder; None if there is none, or if it is damaged.

    Raises:
        InputError: it is damaged, and its rows are needed; or it is of a newer version.
    """
    if not (folder / store.FACTS).is_file():
        return None
    try:
        return Store(folder)
    except store.Newer:
        raise
    except InputError:
        if needed:
            raise
        return None


class _Building:
    """One making of an index.

    Args:
        folder: of the index, which is locked.
        model: embeds the texts.
        facts: for `index.json`, without the tables and rows.
        append, skip_bad_rows, progress: see `make_index`.
    """

    def __init__(
        self,
        folder: Path,
        model: TextEmbedder,
        facts: dict[str, Any],
        append: bool,
        skip_bad_rows: bool,
        progress: Callable[[Progress], None],
    ) -> None:
        self.folder, self.model, self.facts = folder, model, facts
        self.append, self.skip_bad_rows, self.progress = append, skip_bad_rows, progress
        self.new = self.cut = 0
        self.bad_rows: list[BadRow] = []
        self.old = _open_old(folder, append)
        vectors = {name: facts[name] for name in ("model", "dtype", "dimensions")}
        # Text -> place of its vector: in the index, or below 0 among the unfinished ones.
        self.places: dict[bytes, int] = {}
        self.has_old = self.old is not None and vectors.items() <= self.old.facts.items()
        if self.has_old:
            self.places = {bytes(digest): i for i, digest in enumerate(self.old.hashes)}
        self.unfinished = Unfinished(folder, vectors, facts["dtype"], facts["dimensions"])
        for number, digest in enumerate(self.unfinished.hashes()):
            self.places.setdefault(digest, ~number)

    def run(self, tables: Sequence[Any]) -> Made:
        """Write the index."""
        number = 1 + max(store.numbers(self.folder), default=0)
        self.facts |= {"format": store.FORMAT, "number": number, "tables": []}
        rows = RowWriter(self._path("rows.jsonl"))
        where: list[int] = []
        try:
            for batch in self._batches(tables):
                where += self._embed(batch, rows)
                self.progress(Progress(len(where), self.new))
            if not where:
                raise InputError("the tables have no row.\n  Add rows.")
        except BaseException:
            rows.close()
            self._path("rows.jsonl").unlink()
            self.unfinished.close()
            if not len(self.unfinished):
                self.unfinished.remove()
            raise
        rows.close()
        self.unfinished.close()
        self._write_arrays(rows, np.array(where, "int64"))
        graph = self._write_graph(rows.hashes)
        facts = self.facts | {"rows": len(where), "graph": graph}
        text = json.dumps(facts, ensure_ascii=False, indent=1)
        files.write(self.folder / store.FACTS, text + "\n")
        if self.bad_rows:
            write_bad_rows(self.folder / _BAD_ROWS, self.bad_rows)
        if self.old:
            self.old.close()
        self.unfinished.remove()
        store.remove_old(self.folder, number)
        return Made(len(where), self.new, len(self.bad_rows), self.cut, bool(graph))

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.facts['number']}.{name}"

    def _batches(self, tables: Sequence[Any]) -> Iterator[list[Entry]]:
        """Yield the rows of the index, at most `_CHUNK` at a time."""
        given = [_table_facts(table, self.folder) for table in tables]
        if self.append:
            yield from self._kept(given)
        columns = _roles(self.facts["column"], self.facts["shown"])
        for facts, table in zip(given, tables, strict=True):
            number = len(self.facts["tables"])
            signature = store.signature(Path(table))
            self.facts["tables"].append(facts | {"signature": signature})
            read = stream_table(
                table,
                columns,
                skip_bad_rows=self.skip_bad_rows,
                allow_empty=[role for role in columns if role != "column"],
                chunk_rows=_CHUNK,
            )
            for part in read:
                self.bad_rows += part.bad_rows
                cells = zip(*(part.columns[role] for role in columns), strict=True)
                yield [
                    Entry(number, row, text, others)
                    for row, (text, *others) in zip(part.rows, cells, strict=True)
                ]

    def _kept(self, given: Sequence[dict[str, Any]]) -> Iterator[list[Entry]]:
        """Yield the rows of the index whose tables are not among those given."""
        if self.old is None:
            return
        other = [text for name, text in _FIXED.items() if self.facts[name] != self.old.facts[name]]
        if other:
            raise InputError(
                f"{self.folder} was made with another {other[0]}, so nothing can be appended.\n"
                "  Repeat its command with the same flags, or name all tables without --append."
            )
        numbers = {}
        for number, table in enumerate(self.old.tables):
            if not any(_is_same(table, one) for one in given):
                numbers[number] = len(self.facts["tables"])
                self.facts["tables"].append(table)
        batch: list[Entry] = []
        for entry in self.old.entries():
            if entry.table in numbers:
                batch.append(entry._replace(table=numbers[entry.table]))
            if len(batch) == _CHUNK:
                yield batch
                batch = []
        yield batch

    def _embed(self, batch: list[Entry], rows: RowWriter) -> list[int]:
        """Write rows, embed the texts that have no vector yet, and return the places of their
        vectors, see `places`."""
        hashes = [rows.write(entry) for entry in batch]
        missing = {
            digest: entry.text
            for digest, entry in zip(hashes, batch, strict=True)
            if digest not in self.places
        }
        if missing:
            facts = self.facts["model"]
            texts = [facts["prompt"] + text for text in missing.values()]
            ids = self.model.rows(texts)
            self.cut += sum(len(row) >= self.model.max_length for row in ids)
            vectors = self.model.cut(self.model.run_rows(ids), self.facts["dimensions"])
            vectors = nearest.pack(vectors, self.facts["dtype"])
            first = len(self.unfinished)
            self.unfinished.append(vectors, list(missing))
            self.places |= {digest: ~(first + i) for i, digest in enumerate(missing)}
            self.new += len(missing)
        return [self.places[digest] for digest in hashes]

    def _write_arrays(self, rows: RowWriter, where: np.ndarray) -> None:
        """Write vectors, hashes and places."""
        old = self.old.vectors if self.has_old else None
        unfinished = self.unfinished.vectors()

        def parts() -> Iterator[np.ndarray]:
            for start in range(0, len(where), _COPIED):
                part = where[start : start + _COPIED]
                block = np.empty((len(part), self.facts["dimensions"]), self.facts["dtype"])
                block[part < 0] = unfinished[~part[part < 0]]
                if old is not None:
                    block[part >= 0] = old[part[part >= 0]]
                yield block

        shape = (len(where), self.facts["dimensions"])
        store.write_array(self._path("vectors.npy"), parts(), shape, self.facts["dtype"])
        hashes = np.frombuffer(b"".join(rows.hashes), "uint8").reshape(len(where), -1)
        store.write_array(self._path("hashes.npy"), [hashes], hashes.shape, "uint8")
        places = np.array(rows.places, "int64")
        store.write_array(self._path("places.npy"), [places], places.shape, "int64")

    def _write_graph(self, hashes: list[bytes]) -> str:
        """Write the graph of many rows, if `usearch` is installed, and return its checksum; "" if
        there is none. If the old graph has the first of the rows, it is extended."""
        if len(hashes) <= EXACT_ROWS or not nearest.has_usearch():
            return ""
        known = None
        if self.has_old and self.old.facts["graph"] and len(self.old) <= len(hashes):
            before = np.frombuffer(b"".join(hashes[: len(self.old)]), "uint8")
            if np.array_equal(before.reshape(self.old.hashes.shape), self.old.hashes):
                known = self.old.path("graph.usearch"), self.old.facts["graph"]
        vectors = np.load(self._path("vectors.npy"), mmap_mode="r", allow_pickle=False)

        def progress(count: int) -> None:
            self.progress(Progress(len(hashes), self.new, count))

        return nearest.write_graph(self._path("graph.usearch"), vectors, known, progress)
