"""Search by meaning over the rows of tables, with an index on disk; needs no TensorFlow.

search.make_index("faq_index", "saved_models/similar", ["faq.csv"], "question")
search.Index("faq_index").search("How do I return it?")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from tfx_transformer.arguments import flag_for
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.text import TextEmbedder
from tfx_transformer.search import nearest, store
from tfx_transformer.search.building import (
    EXACT_ROWS,
    Made,
    Progress,
    make_index,
    model_facts,
    open_embedder,
)

__all__ = ["EXACT_ROWS", "Found", "Index", "Made", "Progress", "make_index"]


class Found(NamedTuple):
    """A row that a search finds.

    row: its number or name in the table; cosine: of its text and the question, from -1 to 1; text:
    of the searched column; cells: the shown columns, by name; table: path of the table, from the
    folder of the index.
    """

    row: Any
    cosine: float
    text: str
    cells: dict[str, str]
    table: str


class Index:
    """An index that `make_index` has made. Its vectors stay on disk.

    Args:
        folder: the folder of the index.
        bundle: the embedder's bundle; None: where it was when the index was made.
        threads: threads of LiteRT; None: one per core.
        model: the embedder, if it is already loaded from that bundle.

    Attributes:
        store: the files.
        model: embeds the questions.

    Raises:
        InputError: the folder is not an index, or was not made with the bundle.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        bundle: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        model: TextEmbedder | None = None,
    ) -> None:
        self.store = store.Store(Path(folder))
        facts = self.store.facts
        path = Path(folder, facts["bundle"]) if bundle is None else Path(bundle)
        if bundle is None and not path.is_dir():
            flag = flag_for("bundle")
            remedy = f"Name it: {flag} BUNDLE" if flag else "Put it there, or make the index again."
            raise InputError(f"{folder}: its bundle is not at {path}.\n  {remedy}")
        variant = facts["model"]["variant"]
        self.model = model or open_embedder(path, variant, threads)
        if model_facts(path, variant)["files"] != facts["model"].get("files"):
            raise InputError(
                f"{path} is not the bundle that {folder} was made with, or has changed since.\n"
                "  Renew the index: tfx-transformer index BUNDLE TABLE --out FOLDER"
            )
        self._graph: nearest.Graph | None = None

    def __len__(self) -> int:
        return len(self.store)

    def __repr__(self) -> str:
        facts = self.store.facts
        return (
            f"Index: {len(self):,} rows, {facts['dtype']} vectors of {facts['dimensions']:,} "
            f"numbers ({facts['column']!r})"
        )

    @property
    def has_graph(self) -> bool:
        """True if a graph finds the nearest rows, and False if all rows are compared. That is also
        so if another command has renewed the index before the graph was opened."""
        if not self.store.facts["graph"] or not nearest.has_usearch():
            return False
        return self._graph is not None or self.store.path("graph.usearch").is_file()

    @overload
    def search(
        self, questions: str, count: int = 5, prompt: str | None = None, exact: bool = False
    ) -> list[Found]: ...

    @overload
    def search(
        self,
        questions: Sequence[str],
        count: int = 5,
        prompt: str | None = None,
        exact: bool = False,
    ) -> list[list[Found]]: ...

    def search(
        self,
        questions: str | Sequence[str],
        count: int = 5,
        prompt: str | None = None,
        exact: bool = False,
    ) -> list[Found] | list[list[Found]]:
        """Return the rows whose texts are nearest to a question, the nearest first, or a list of
        them for each question of a list.

        Args:
            count: rows to find; all if the index has fewer.
            prompt: name of the embedder's prompt to put before each question; None: "query", if it
                has that, else its default.
            exact: compare every row, even if there is a graph.

        Raises:
            InputError: there is no question, `count` is below 1, or a file is damaged.
        """
        texts = [questions] if isinstance(questions, str) else list(questions)
        if prompt is None:
            prompt = self.model.config.prompt_name("query")
        vectors = self.model.embed(texts, prompt, self.store.facts["dimensions"])
        found = self.nearest(vectors, count, exact)
        return found[0] if isinstance(questions, str) else found

    def nearest(
        self, vectors: np.ndarray, count: int = 5, exact: bool = False
    ) -> list[list[Found]]:
        """Return the nearest rows of vectors, float (n, dimensions); see `search`."""
        return [
            [self.row(*one) for one in zip(numbers.tolist(), cosines.tolist(), strict=True)]
            for numbers, cosines in zip(*self.places(vectors, count, exact), strict=True)
        ]

    def places(
        self, vectors: np.ndarray, count: int = 5, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the nearest rows of vectors, int (n, count), which `row` reads, and
        their cosines, float of that shape; see `search`."""
        if count < 1:
            raise InputError(f"count is {count}.\n  Expected 1 row or more.")
        if exact or not self.has_graph:
            return nearest.exact(vectors, self.store.vectors, count)
        if self._graph is None:
            file = self.store.path("graph.usearch")
            self._graph = nearest.Graph(file, self.store.vectors, self.store.facts["graph"])
        return self._graph.nearest(vectors, count)

    def row(self, number: int, cosine: float) -> Found:
        """Return a row that was found.

        Args:
            number, cosine: of `places`.

        Raises:
            InputError: the files of the rows are damaged.
        """
        entry = self.store.entry(number)
        cells = dict(zip(self.store.facts["shown"], entry.cells, strict=True))
        table = self.store.tables[entry.table]["path"]
        return Found(entry.row, round(cosine, 6), entry.text, cells, table)

    def changed_tables(self) -> list[str]:
        """Return the paths of the tables that have changed since the index was made, without those
        that are gone."""
        changed = []
        for table in self.store.tables:
            path = self.store.folder / table["path"]
            found = store.signature(path)
            if found is not None and found != table.get("signature"):
                changed.append(os.path.realpath(path))
        return list(dict.fromkeys(changed))
