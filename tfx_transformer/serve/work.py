"""Pieces of work, the fair queue in which they wait, and the thread that does them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tfx_transformer.serve import errors
from tfx_transformer.serve.metrics import Metrics

LOGGER = logging.getLogger("tfx_transformer.serve")


class Event(NamedTuple):
    """News of a piece of work: a part of its answer, the end of it, or why there is none.

    index: of the piece in its request; value: what its kind of work makes; error: what ended it.
    """

    index: int
    value: Any = None
    error: BaseException | None = None
    last: bool = False


class Work:
    """A piece of work of one request.

    Args:
        index: of the piece in its request.
        client: who asks; the queue takes turns between clients.
        deadline: of `time.monotonic`.
        events: where its events go, in the loop of events that is running.
    """

    def __init__(self, index: int, client: str, deadline: float, events: asyncio.Queue) -> None:
        self.index, self.client, self.deadline = index, client, deadline
        self.cancelled = False
        self._events, self._loop = events, asyncio.get_running_loop()

    def tell(self, value: Any = None, error: BaseException | None = None, last: bool = False):
        """Send an event, from any thread."""
        event = Event(self.index, value, error, last or error is not None)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody listens
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class FairQueue:
    """Waiting work: clients take turns, and the work of each is done in its order."""

    def __init__(self) -> None:
        self._of_client: OrderedDict[str, deque[Work]] = OrderedDict()

    def put(self, work: Work) -> None:
        """Add a piece of work."""
        self._of_client.setdefault(work.client, deque()).append(work)

    def take(self) -> Work | None:
        """Return the next piece of work, or None."""
        if not self._of_client:
            return None
        client, waiting = self._of_client.popitem(last=False)
        work = waiting.popleft()
        if waiting:  # behind all other clients
            self._of_client[client] = waiting
        return work


class Worker:
    """A thread that answers for one model, so that one thread alone uses it.

    Subclasses have `turn`. A fault ends the work it happened in; the thread goes on.

    Args:
        name: of the model.
        most: pieces of work that wait or run at a time.
        metrics: where it counts.
    """

    def __init__(self, name: str, most: int, metrics: Metrics) -> None:
        self.name, self.most, self.metrics = name, most, metrics
        self.labels = f'model="{_label(name)}"'
        # Texts become ids, and images pixels, in a thread of their own.
        self.preparing = ThreadPoolExecutor(1, thread_name_prefix=f"prepare {name}")
        self.reserved = 0
        self.stopped: float | None = None  # when it has to be done, once it is to end
        self._queue = FairQueue()
        self._news = threading.Condition()
        self._mean = 0.1  # seconds for a piece of work, lately
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
            Refusal: there is no room, or the server is about to end.
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
        """End: what waits is refused, and what runs has `grace` seconds."""
        with self._news:
            self.stopped = time.monotonic() + grace
            self._news.notify()
        self.preparing.shutdown(wait=False, cancel_futures=True)

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(seconds)

    def take(self, wait: bool) -> Any:
        """Return the next piece of work that somebody still waits for.

        Args:
            wait: until there is one, or the worker is to end; else None if there is none.
        """
        with self._news:
            while True:
                work = self._queue.take()
                if work is None:
                    if not wait or self.stopped is not None:
                        return None
                    self._news.wait()
                elif self.stopped is not None:
                    work.tell(error=errors.ending())
                elif not work.cancelled and time.monotonic() < work.deadline:
                    return work

    def took(self, seconds: float) -> None:
        """Remember how long a piece of work took, to say when to come again."""
        self._mean += 0.1 * (seconds - self._mean)

    def turn(self) -> list[Work]:
        """Do something: take work, run the model once. Return the work that is under way."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """End all work under way with an error, and be ready for more."""
        raise NotImplementedError

    def _run(self) -> None:
        while True:
            try:
                active = self.turn()
                if self.stopped is not None and not active:
                    self.take(wait=False)  # refuses what still waits
                    return
            except Exception as error:
                self.metrics.count("tfx_faults_total", self.labels)
                LOGGER.exception(f"a fault of the model {self.name}")
                self.fail(error)


def _label(name: str) -> str:
    """Return a name as the value of a label in Prometheus's format."""
    return name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
