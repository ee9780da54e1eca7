"""Endpoints of models by task: one row a task.

A new task needs a row here, and a new endpoint if it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tfx_transformer.serve.classify import CLASSIFY
from tfx_transformer.serve.completions import CHAT, COMPLETIONS
from tfx_transformer.serve.embed import EMBEDDINGS
from tfx_transformer.serve.endpoints import Endpoint
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.predict import PREDICT
from tfx_transformer.serve.reading import ReadingWorker
from tfx_transformer.serve.search import SEARCH, searching
from tfx_transformer.serve.tag import TAG
from tfx_transformer.serve.translate import TRANSLATE
from tfx_transformer.serve.work import Worker
from tfx_transformer.serve.writing import WritingWorker


class Task(NamedTuple):
    """The row of a task.

    worker: (name, most pieces of work, metrics, model) -> its worker; endpoints: of its models.
    """

    worker: Callable[[str, int, Metrics, Any], Worker]
    endpoints: tuple[Endpoint, ...]


def _reading(name: str, most: int, metrics: Metrics, model: Any) -> Worker:
    return ReadingWorker(name, most, metrics, model.run_rows)


def _tagging(name: str, most: int, metrics: Metrics, model: Any) -> Worker:
    return ReadingWorker(name, most, metrics, model.tag)


TASKS = {
    "causal": Task(WritingWorker, (CHAT, COMPLETIONS)),
    "seq2seq": Task(WritingWorker, (TRANSLATE, COMPLETIONS)),
    "classification": Task(_reading, (CLASSIFY,)),
    "embedding": Task(_reading, (EMBEDDINGS,)),
    "tagging": Task(_tagging, (TAG,)),
    "regression": Task(_reading, (PREDICT,)),
}

# An index is served like a model; its files say what it is, not a task.
INDEX = "index"
SERVED = TASKS | {INDEX: Task(searching, (SEARCH,))}


def endpoints() -> list[tuple[Endpoint, list[str]]]:
    """Return every endpoint with the tasks whose models answer it."""
    found: dict[str, tuple[Endpoint, list[str]]] = {}
    for name, task in SERVED.items():
        for endpoint in task.endpoints:
            found.setdefault(endpoint.path, (endpoint, []))[1].append(name)
    return list(found.values())
