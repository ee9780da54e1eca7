"""The endpoint of indexes: the rows nearest in meaning to a text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from starlette.responses import Response

from tfx_transformer.errors import InputError
from tfx_transformer.serve.endpoints import MODEL, Endpoint, listing
from tfx_transformer.serve.errors import JSON, Refusal
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.reading import ReadingWorker, read_inputs
from tfx_transformer.serve.service import Call, Service

if TYPE_CHECKING:
    from tfx_transformer.search import Found, Index

# Rows that are found by default, and at most: each has its text and the shown cells.
_COUNT, _MOST = 5, 100
# Most characters of a query.
_LONGEST = 20_000


class Question(NamedTuple):
    """A query as the worker takes it.

    ids: of the query; count: rows to find; exact: compare all rows.
    """

    ids: list[int]
    count: int
    exact: bool


def searching(name: str, most: int, metrics: Metrics, index: Index) -> ReadingWorker:
    """Return the worker of an index. One thread reads its files, which are opened now.

    Args:
        name, most, metrics: see `Worker`.

    Raises:
        InputError: the graph of the index is damaged.
    """
    index.nearest(np.ones((1, index.store.facts["dimensions"]), "float32"), 1)

    def run(questions: Sequence[Question]) -> list[list[Found]]:
        vectors = np.array(index.model.run_rows([one.ids for one in questions]))
        vectors = index.model.cut(vectors, index.store.facts["dimensions"])
        try:
            return nearest(index, vectors, questions)
        except InputError as error:  # of a damaged file, whose path is not for clients
            raise RuntimeError(str(error)) from error

    return ReadingWorker(name, most, metrics, run)


def nearest(index: Index, vectors: np.ndarray, questions: Sequence[Question]) -> list[list[Found]]:
    """Return the rows nearest to the vector of each question, the nearest first. Questions that
    compare all rows do so in one pass."""
    compared = [i for i, one in enumerate(questions) if one.exact or not index.has_graph]
    found: dict[int, list[Found]] = {}
    if compared:
        most = max(questions[i].count for i in compared)
        rows = index.nearest(vectors[compared], most, exact=True)
        found = dict(zip(compared, rows, strict=True))
    return [
        found[i][: one.count] if i in found else index.nearest(vectors[i : i + 1], one.count)[0]
        for i, one in enumerate(questions)
    ]


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
    data = [
        {
            "index": number,
            "table": os.path.basename(one.table),
            "row": one.row,
            "cosine": one.cosine,
            "text": one.text,
            "cells": one.cells,
        }
        for number, one in enumerate(found)
    ]
    tokens = len(questions[0].ids)
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSON({"object": "list", "model": call.served.id, "data": data, "usage": counted})


_FOUND: dict[str, Any] = {
    "type": "object",
    "required": ["index", "table", "row", "cosine", "text", "cells"],
    "properties": {
        "index": {"type": "integer"},
        "table": {"type": "string"},
        "row": {"type": ["integer", "string"]},
        "cosine": {"type": "number"},
        "text": {"type": "string"},
        "cells": {"type": "object", "additionalProperties": {"type": "string"}},
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
