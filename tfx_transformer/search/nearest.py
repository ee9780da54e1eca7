"""The nearest of many vectors: exact in NumPy, or by a graph of `usearch`."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tfx_transformer import files
from tfx_transformer.arguments import flag_for
from tfx_transformer.errors import InputError

Dtype = Literal["float32", "float16", "int8"]
DTYPES = get_args(Dtype)

# Vectors that are compared at a time: with 1,000 numbers each they take 64 MB as float32.
_BLOCK = 16_384
# Vectors that are added to a graph at a time.
_ADDED = 10_000
# Cosines are rounded, so that equal vectors, which a matrix product treats differently in their
# last bits, stay in order.
_DECIMALS = 6
# The graph of Malkov and Yashunin (2016): neighbours of a vector, and candidates while building.
_NEIGHBOURS, _CANDIDATES = 16, 128
# Candidates of a search, which are then compared exactly: times `count`, and the fewest.
_TIMES, _FEWEST = 4, 256


def pack(vectors: np.ndarray, dtype: Dtype) -> np.ndarray:
    """Return the directions of vectors (n, d) as they are stored, (n, d).

    float32 and float16: v / |v|;  int8: round(127 v / max |v_i|), each row by itself

    A vector of zeros stays.
    """
    vectors = np.asarray(vectors, "float32")
    if dtype == "int8":
        largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
        return np.rint(127 * vectors / np.where(largest > 0, largest, 1)).astype("int8")
    return _unit(vectors).astype(dtype)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def cosines(queries: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """Return the cosine of each query with each stored vector, float32 (n, m).

    Args:
        queries: float32 (n, d) of length 1.
        packed: (m, d), from `pack`.
    """
    vectors = np.asarray(packed, "float32")
    products = queries @ vectors.T
    if packed.dtype != np.float32:  # rounding has changed the lengths
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        products /= np.where(lengths > 0, lengths, 1)
    return np.round(products, _DECIMALS)


def exact(queries: np.ndarray, packed: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest stored vectors of each query, the nearest first; among equals the earlier
    one first.

    Args:
        queries: float32 (n, d), of any length but 0.
        packed: (m, d), from `pack`; it may be a memory map.
        count: number of neighbours; all vectors if there are fewer.

    Returns: their numbers, int64 (n, min(count, m)), and cosines, float32 of that shape.
    """
    queries = _unit(np.asarray(queries, "float32"))
    best = [(np.empty(0, "int64"), np.empty(0, "float32"))] * len(queries)
    for start in range(0, len(packed), _BLOCK):
        found = cosines(queries, packed[start : start + _BLOCK])
        for number, row in enumerate(found):
            near = np.arange(len(row))
            if count < len(row):
                near = np.flatnonzero(row >= np.partition(row, -count)[-count])
            indices = np.concatenate([best[number][0], start + near])
            values = np.concatenate([best[number][1], row[near]])
            best[number] = _first(indices, values, count)
    return np.array([i for i, _ in best]), np.array([v for _, v in best])


def _first(indices: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` nearest of some vectors, the nearest first."""
    order = np.lexsort((indices, -values))[:count]
    return indices[order], values[order]


def has_usearch() -> bool:
    """Return True if `usearch` is installed."""
    return importlib.util.find_spec("usearch") is not None


class Graph:
    """The approximate nearest neighbours of stored vectors, by a graph in a file.

    The graph holds the vectors as int8; its candidates are compared exactly.

    Args:
        file: the file, written by `write_graph`.
        packed: (m, d), the vectors of the graph, from `pack`.
        digest: the SHA-256 that `write_graph` returned; `usearch` may crash on a damaged graph.

    Raises:
        InputError: the file is damaged, or its graph has other vectors.
    """

    def __init__(self, file: Path, packed: np.ndarray, digest: str) -> None:
        self.packed = packed
        self._graph = _restore(file, packed, digest, view=True)

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what `exact` returns; a near vector may be missing."""
        queries = _unit(np.asarray(queries, "float32"))
        count = min(count, len(self.packed))
        wanted = min(max(_TIMES * count, _FEWEST), len(self.packed))
        self._graph.expansion_search = wanted
        indices, values = [], []
        for query in queries:
            keys = self._graph.search(pack(query[None], "int8")[0], wanted).keys.astype("int64")
            found = _first(keys, cosines(query[None], self.packed[keys])[0], count)
            indices.append(found[0])
            values.append(found[1])
        return np.array(indices), np.array(values)


def write_graph(
    file: Path,
    packed: np.ndarray,
    known: tuple[Path, str] | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> str:
    """Write the graph of stored vectors, and return its SHA-256.

    Args:
        file: to write.
        packed: (m, d), from `pack`.
        known: file and SHA-256 of a graph of the first of these vectors, which is extended unless
            it is damaged; None: none.
        progress: is called with the number of vectors that the graph has.
    """
    from usearch.index import Index

    graph = None
    if known is not None:
        with contextlib.suppress(InputError):
            graph = _restore(known[0], packed, known[1], view=False)
    if graph is None:
        graph = Index(
            ndim=packed.shape[1],
            metric="cos",
            dtype="i8",
            connectivity=_NEIGHBOURS,
            expansion_add=_CANDIDATES,
        )
    for start in range(len(graph), len(packed), _ADDED):
        block = packed[start : start + _ADDED]
        as_int8 = block if block.dtype == np.int8 else pack(block, "int8")
        graph.add(np.arange(start, start + len(block)), as_int8, threads=0)
        progress(start + len(block))
    graph.save(str(file))
    files.sync(file)
    return _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _restore(file: Path, packed: np.ndarray, digest: str, view: bool) -> Any:
    """Return the graph in a file.

    Args:
        packed: the vectors that it must have.
        digest: SHA-256 of the file.
        view: the graph stays in its file; else it may have only the first of the vectors.
    """
    from usearch.index import Index

    try:
        graph = Index.restore(str(file), view=view) if _digest(file) == digest else None
        size = -1 if graph is None or graph.ndim != packed.shape[1] else len(graph)
        if size != len(packed) and (view or size < 0 or size > len(packed)):
            graph = None
    except (OSError, RuntimeError, ValueError, TypeError):
        graph = None
    if graph is None:
        flag = flag_for("exact")
        other = f", or search with {flag}, which does not read it" if flag else ""
        raise InputError(
            f"{file} is damaged, or the graph of another index.\n  Make the index again{other}."
        )
    return graph
