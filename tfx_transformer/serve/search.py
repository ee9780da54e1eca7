"""The endpoint of indexes: the rows nearest in meaning to a text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from starlette.responses import Response

from tfx_transformer.errors import InputError
from tfx_transformer.serve.endpoints import MODEL, Endpoint, listing
from tfx_transformer.serve.errors import JSON, Refusal
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.limits import ROW
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.reading import ReadingWorker, read_inputs
from tfx_transformer.serve.service import Call, Service
from tfx_transformer.serve.work import LOGGER

if TYPE_CHECKING:
    from tfx_transformer.search import Found, Index

# Rows that are found by default, and at most: each has its text and the shown cells.
_COUNT, _MOST = 5, 100
# Most characters of a query, and of the name of a row or table.
_LONGEST, _NAME = 20_000, 255


class Question(NamedTuple):
    """A query as the worker takes it.

    ids: of the query; count: rows to find; exact: compare all rows.
    """

    ids: list[int]
    count: int
    exact: bool


def searching(name: str, most: int, metrics: Metrics, index: Index) -> ReadingWorker:
    """Return the worker of an index. One thread reads its files, which are opened now.

    Its output for a question is the list of rows, JSON objects; or a `Refusal` if one of them is
    damaged, which leaves the other questions as they are.

    Args:
        name, most, metrics: see `Worker`.

    Raises:
        InputError: the graph of the index is damaged.
    """
    index.places(np.ones((1, index.store.facts["dimensions"]), "float32"), 1)

    def run(questions: Sequence[Question]) -> list[list[dict[str, Any]] | Refusal]:
        vectors = np.array(index.model.run_rows([one.ids for one in questions]))
        vectors = index.model.cut(vectors, index.store.facts["dimensions"])
        return [read(*places) for places in nearest(index, vectors, questions)]

    def read(numbers: np.ndarray, cosines: np.ndarray) -> list[dict[str, Any]] | Refusal:
        try:
            return list(_rows(index, numbers, cosines))
        except InputError as error:  # it names a path, which is not for clients
            LOGGER.error(f"{name}: {error}")
            metrics.count("tfx_faults_total", worker.labels)
            return Refusal(
                500, "A row that was found is damaged: make the index again.", "damaged_index"
            )

    worker = ReadingWorker(name, most, metrics, run)
    return worker


def nearest(
    index: Index, vectors: np.ndarray, questions: Sequence[Question]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows nearest to the vector of each question, the nearest first, as numbers and
    cosines (see `Index.places`). Questions that compare all rows do so in one pass."""
    compared = [i for i, one in enumerate(questions) if one.exact or not index.has_graph]
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    if compared:
        most = max(questions[i].count for i in compared)
        places = index.places(vectors[compared], most, exact=True)
        found = dict(zip(compared, zip(*places, strict=True), strict=True))
    for i, one in enumerate(questions):
        if i not in found:
            numbers, cosines = index.places(vectors[i : i + 1], one.count)
            found[i] = numbers[0], cosines[0]
    return [(found[i][0][: one.count], found[i][1][: one.count]) for i, one in enumerate(questions)]


def _rows(index: Index, numbers: np.ndarray, cosines: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield found rows as JSON objects."""
    places = zip(numbers.tolist(), cosines.tolist(), strict=True)
    for rank, place in enumerate(places):
        yield {"index": rank} | shorten(index.row(*place))


def shorten(found: Found) -> dict[str, Any]:
    """Return a found row as a JSON object. Of its text, its cells and their names, in this order,
    only the first `ROW` characters are there, so that an answer has a bound."""
    room, cells = ROW - len(found.text), {}
    for name, cell in found.cells.items():
        room -= len(name)
        if room >= 0:
            cells[name] = cell[:room]
        room -= len(cell)
    return {
        "table": os.path.basename(found.table)[:_NAME],
        "row": found.row if isinstance(found.row, int) else str(found.row)[:_NAME],
        "cosine": found.cosine,
        "text": found.text[:ROW],
        "cells": cells,
        "cut": room < 0,
    }


async def _search(service: Service, call: Call) -> Response:
    index, body = call.served.model, call.body
    prompt = body.get("prompt_name") or index.model.config.prompt_name("query")
    try:
        index.model.config.prompt(prompt)
    except InputError as error:
        raise Refusal(400, str(error), "invalid_value", "prompt_name") from error

    def read(queries: Sequence[str]) -> list[Question]:
        rows = index.model.rows(index.model.add_prompts(queries, prompt))
        return [Question(ids, body.get("count", _COUNT), body.get("exact", False)) for ids in rows]

    questions, (found,) = await read_inputs(service, call, [body["query"]], read)
    if isinstance(found, Refusal):
        raise found
    tokens = len(questions[0].ids)
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSON({"object": "list", "model": call.served.id, "data": found, "usage": counted})


_FOUND: dict[str, Any] = {
    "type": "object",
    "required": ["index", "table", "row", "cosine", "text", "cells", "cut"],
    "properties": {
        "index": {"type": "integer"},
        "table": {"type": "string"},
        "row": {"type": ["integer", "string"]},
        "cosine": {"type": "number"},
        "text": {"type": "string"},
        "cells": {"type": "object", "additionalProperties": {"type": "string"}},
        "cut": {
            "type": "boolean",
            "description": f"True if text and cells have more than {ROW:,} characters, of which "
            "only the first are here.",
        },
    },
}
SEARCH = Endpoint(
    "/v1/search",
    "Rows of an index whose texts are nearest in meaning to a query.",
    {
        "model": MODEL,
        "query": Field(
            {"type": "string", "minLength": 1, "maxLength": _LONGEST}, "A text.", needed=True
        ),
        "count": Field(
            {"type": "integer", "minimum": 1, "maximum": _MOST},
            f"Rows to find, the nearest first. Default: {_COUNT}.",
        ),
        "exact": Field(
            {"type": "boolean"}, "Compare all rows; the graph of a large index may miss one."
        ),
        "prompt_name": Field(
            {"type": "string", "maxLength": 200},
            "Name of the embedder's prompt before the query. Default: query, if it has that.",
        ),
    },
    listing(_FOUND),
    _search,
)
