"""Pieces of work, the fair queue in which they wait, and the thread that does them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tfx_transformer.serve import errors
from tfx_transformer.serve.metrics import Metrics

LOGGER = logging.getLogger("tfx_transformer.serve")


class Event(NamedTuple):
    """An event of a piece of work: a part of its answer, its end, or an error.

    index: of the piece in its request; value: of the kind of work; error: the exception that ended
    the work; last: True if no event follows.
    """

    index: int
    value: Any = None
    error: BaseException | None = None
    last: bool = False


class Work:
    """A piece of work of one request.

    Args:
        index: of the piece in its request.
        client: address of the client; clients take turns in the queue.
        deadline: in seconds of `time.monotonic`.
        events: queue for its events, in the running event loop.
    """

    def __init__(self, index: int, client: str, deadline: float, events: asyncio.Queue) -> None:
        self.index, self.client, self.deadline = index, client, deadline
        self.cancelled = False
        self._events, self._loop = events, asyncio.get_running_loop()

    def tell(self, value: Any = None, error: BaseException | None = None, last: bool = False):
        """Send an event, from any thread."""
        event = Event(self.index, value, error, last or error is not None)
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


def _always(work: Any) -> bool:
    return True


class FairQueue:
    """A queue of work in which clients take turns; the work of each client keeps its order, but for
    work that does not fit yet, which stays in its place."""

    def __init__(self) -> None:
        self._of_client: OrderedDict[str, deque[Work]] = OrderedDict()

    def put(self, work: Work) -> None:
        """Add a piece of work."""
        self._of_client.setdefault(work.client, deque()).append(work)

    def take(self, fits: Callable[[Any], bool] = _always) -> Work | None:
        """Return the next piece of work that fits, or None."""
        for client, waiting in self._of_client.items():
            work = next(filter(fits, waiting), None)
            if work is not None:
                waiting.remove(work)
                self._of_client.move_to_end(client)  # behind all other clients
                if not waiting:
                    del self._of_client[client]
                return work
        return None


class Worker:
    """A thread that alone uses one model.

    Subclasses define `turn` and `fail`. An exception ends the running work; the thread goes on.

    Args:
        name: of the model.
        most: most pieces of work that wait or run at a time.
        metrics: counters of the server.
    """

    def __init__(self, name: str, most: int, metrics: Metrics) -> None:
        self.name, self.most, self.metrics = name, most, metrics
        self.labels = f'model="{_label(name)}"'
        # Texts become ids, and images pixels, in a thread of their own.
        self.preparing = ThreadPoolExecutor(1, thread_name_prefix=f"prepare {name}")
        self.reserved = 0
        self.stopped: float | None = None  # after `stop`: the deadline of running work
        self._queue = FairQueue()
        self._news = threading.Condition()
        self._mean = 0.1  # moving average of the seconds for a piece of work
        self._thread = threading.Thread(target=self._run, name=f"model {name}", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """True while it works."""
        return self._thread.is_alive() and self.stopped is None

    @contextlib.contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Hold room for pieces of work in the queue; called by the thread of the server only.

        Raises:
            Refusal: there is no room, or the server is shutting down.
        """
        if self.stopped is not None:
            raise errors.ending()
        if self.reserved + count > self.most:
            raise errors.overloaded(self.reserved * self._mean)
        self.reserved += count
        try:
            yield
        finally:
            self.reserved -= count

    def submit(self, work: Work) -> None:
        """Queue a piece of work."""
        with self._news:
            self._queue.put(work)
            self._news.notify()

    def stop(self, grace: float) -> None:
        """Stop: waiting work is refused, running work has `grace` seconds."""
        with self._news:
            self.stopped = time.monotonic() + grace
            self._news.notify()
        self.preparing.shutdown(wait=False, cancel_futures=True)

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(seconds)

    def take(self, wait: bool, fits: Callable[[Any], bool] = _always) -> Any:
        """Return the next piece of work that is not cancelled or late; None if there is none.

        Args:
            wait: wait for one, until the worker stops.
            fits: returns True for work that can begin now; other work goes on waiting.
        """
        with self._news:
            while True:
                work = self._queue.take(fits if self.stopped is None else _always)
                if work is None:
                    if not wait or self.stopped is not None:
                        return None
                    self._news.wait()
                elif self.stopped is not None:
                    work.tell(error=errors.ending())
                elif not work.cancelled and time.monotonic() < work.deadline:
                    return work

    def took(self, seconds: float) -> None:
        """Record the seconds of a piece of work, for `Retry-After`."""
        self._mean += 0.1 * (seconds - self._mean)

    def turn(self) -> list[Work]:
        """Take work and run the model once; return the work that is still running."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """End all running work with an error, and be ready for more."""
        raise NotImplementedError

    def _run(self) -> None:
        while True:
            try:
                active = self.turn()
                if self.stopped is not None and not active:
                    self.take(wait=False)  # refuses waiting work
                    return
            except Exception as error:
                self.metrics.count("tfx_faults_total", self.labels)
                LOGGER.exception(f"fault in the model {self.name}")
                self.fail(error)


def _label(name: str) -> str:
    """Return a name as the value of a label in Prometheus's format."""
    return name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
