"""Models that read: waiting inputs run together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tfx_transformer.errors import InputError
from tfx_transformer.serve.errors import Refusal
from tfx_transformer.serve.limits import PIECE
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.work import Work, Worker

if TYPE_CHECKING:
    from tfx_transformer.serve.service import Call, Service

# Most inputs that one call of the model takes.
TOGETHER = 64


class Inputs(Work):
    """Inputs of a model that reads, at most `PIECE`. Its one event is the list of their outputs.

    Args:
        index, client, deadline, events: see `Work`.
        inputs: as the model's `run` takes them.
    """

    def __init__(
        self,
        index: int,
        client: str,
        deadline: float,
        events: asyncio.Queue,
        inputs: Sequence[Any],
    ) -> None:
        super().__init__(index, client, deadline, events)
        self.inputs = inputs


class ReadingWorker(Worker):
    """Computes the outputs of one model; see `Worker`.

    Args:
        name, most, metrics: see `Worker`.
        run: inputs -> a list of outputs, one for each input.
    """

    def __init__(
        self,
        name: str,
        most: int,
        metrics: Metrics,
        run: Callable[[Sequence[Any]], Sequence[Any]],
    ) -> None:
        super().__init__(name, most, metrics)
        self.run = run
        self._active: list[Inputs] = []

    def turn(self) -> list[Work]:
        """See `Worker`."""
        count = 0
        while count + PIECE <= TOGETHER:
            work = self.take(wait=not self._active)
            if work is None:
                break
            self._active.append(work)
            count += len(work.inputs)
        if self._active:
            began = time.monotonic()
            outputs = list(self.run([one for work in self._active for one in work.inputs]))
            self.metrics.count("tfx_steps_total", self.labels)
            self.metrics.count("tfx_rows_total", self.labels, count)
            for work in self._active:
                work.tell(outputs[: len(work.inputs)], last=True)
                del outputs[: len(work.inputs)]
            self.took((time.monotonic() - began) / len(self._active))
            self._active.clear()
        return []

    def fail(self, error: BaseException) -> None:
        """See `Worker`."""
        for work in self._active:
            work.tell(error=error)
        self._active.clear()


async def read_inputs(
    service: Service,
    call: Call,
    inputs: Sequence[Any],
    read: Callable[[Sequence[Any]], list[Any]],
    piece: int = PIECE,
) -> tuple[list[Any], list[Any]]:
    """Return the model's rows for the inputs of a request, and its outputs.

    Args:
        read: inputs -> rows for the model; it runs in the worker's preparing thread.
        piece: rows in one piece of work, at most `PIECE`.

    Returns: the rows, and the output of each.

    Raises:
        Refusal: an input cannot be read, there is no room, or there is no answer in time.
    """
    rows: list[Any] = []
    worker, running = call.served.worker, asyncio.get_running_loop()
    try:
        for start in range(0, len(inputs), piece):
            part = inputs[start : start + piece]
            rows += await running.run_in_executor(worker.preparing, read, part)
    except InputError as error:
        raise Refusal(400, str(error), "invalid_value", "input") from error
    events: asyncio.Queue = asyncio.Queue()
    works = [
        Inputs(start // piece, call.client, call.deadline, events, rows[start : start + piece])
        for start in range(0, len(rows), piece)
    ]
    outputs = await service.results(call, works, events)
    return rows, [one for part in outputs for one in part]
