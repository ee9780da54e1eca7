"""The models of a server, and the functions that its endpoints share."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from starlette.requests import Request

from tfx_transformer import bundle, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.search import Index
from tfx_transformer.search.store import FACTS
from tfx_transformer.serve import errors
from tfx_transformer.serve.errors import Refusal, shown
from tfx_transformer.serve.limits import Limits
from tfx_transformer.serve.metrics import Metrics
from tfx_transformer.serve.work import Event, Work, Worker

# Seconds after its deadline in which a worker may still send an answer that it has cut.
_SLACK = 2.0


class Served(NamedTuple):
    """A model or an index that is served.

    id: the name of its folder; task: of the model, or `tasks.INDEX`; model: of `runtime.load`, or
    a `search.Index`; config: the bundle's config.json; worker: its thread; created: seconds since
    1970; fingerprint: of its files.
    """

    id: str
    task: str
    model: Any
    config: dict[str, Any]
    worker: Worker
    created: int
    fingerprint: str


class Call(NamedTuple):
    """A request after reading and checking.

    request: of Starlette; body: its values; served: the model that it asks; deadline: in seconds
    of `time.monotonic`; client: address of the client.
    """

    request: Request
    body: dict[str, Any]
    served: Served
    deadline: float
    client: str


class Service:
    """Bundles and indexes that are loaded once and answer for all requests.

    Args:
        paths: folders of bundles, or of indexes that `search.make_index` made.
        limits: see `Limits`.
        variant, threads: see `runtime.load`; an index has a variant of its own.

    Raises:
        InputError: a bundle or an index cannot be loaded, or two have the same name.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        limits: Limits | None = None,
        variant: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.held = 0  # bytes of all requests under way
        self.models: dict[str, Served] = {}
        for path in paths:
            name = Path(path).resolve().name
            if name in self.models:
                raise InputError(
                    f"{path}: another bundle has the name {name!r}; requests choose models by "
                    "these names.\n  Rename one of the folders."
                )
            if (facts := Path(path, FACTS)).is_file():
                self._add_index(name, facts, threads)
                continue
            model = runtime.load(path, variant, threads)
            digest = hashlib.sha256(Path(path, bundle.SUMS).read_bytes()).hexdigest()
            created = int(os.path.getmtime(Path(path, bundle.CONFIG)))
            self.add(name, model, bundle.read_config(path), created, f"tfx_{digest[:12]}")

    def _add_index(self, name: str, facts: Path, threads: int | None) -> None:
        """Add the index whose facts are in a file."""
        from tfx_transformer.serve.tasks import INDEX

        digest = hashlib.sha256(facts.read_bytes()).hexdigest()
        index = Index(facts.parent, threads=threads)
        self.add(name, index, {"task": INDEX}, int(facts.stat().st_mtime), f"tfx_{digest[:12]}")

    def add(
        self, name: str, model: Any, config: dict[str, Any], created: int = 0, fingerprint: str = ""
    ) -> None:
        """Add a model, before the service starts.

        Args:
            name: by which requests choose it.
            model: of `runtime.load`, or an index.
            config: config.json of its bundle; of an index its task alone.
            created, fingerprint: see `Served`.
        """
        from tfx_transformer.serve.tasks import SERVED

        task = config["task"]
        worker = SERVED[task].worker(name, self.limits.queue, self.metrics, model)
        self.models[name] = Served(name, task, model, config, worker, created, fingerprint)

    def start(self) -> None:
        """Begin to answer."""
        for served in self.models.values():
            served.worker.start()

    def stop(self) -> None:
        """Refuse new and waiting work; cut running work after `limits.grace` seconds."""
        for served in self.models.values():
            if served.worker.stopped is None:
                served.worker.stop(self.limits.grace)

    def join(self) -> None:
        """Wait for the threads to end."""
        for served in self.models.values():
            served.worker.join(self.limits.grace)

    @property
    def is_healthy(self) -> bool:
        """True if every model answers."""
        return all(served.worker.is_alive for served in self.models.values())

    def find(self, name: str | None, path: str, tasks: Sequence[str]) -> Served:
        """Return the model that answers a request.

        Args:
            name: given by the request; None: the only model with this endpoint.
            path: of the endpoint.
            tasks: the tasks whose models have the endpoint.

        Raises:
            Refusal: no model fits, or the request must name one.
        """
        fitting = [served for served in self.models.values() if served.task in tasks]
        listed = ", ".join(served.id for served in fitting)
        if name is None:
            if len(fitting) == 1:
                return fitting[0]
            text = f"The field 'model' is missing. Models that answer {path}: {listed}."
            if not fitting:
                text = f"No model of this server answers {path}. See /v1/models."
            raise Refusal(404 if not fitting else 400, text, "model_not_found", "model")
        served = self.models.get(name)
        if served is None:
            raise Refusal(
                404, f"There is no model {shown(name)}. Models: {', '.join(self.models)}.",
                "model_not_found", "model",
            )  # fmt: skip
        if served not in fitting:
            text = f"The model {shown(name)} (task {served.task}) does not answer {path}."
            if listed:
                text += f" These do: {listed}."
            raise Refusal(400, text, "model_not_supported", "model")
        return served

    async def events(
        self, call: Call, works: Sequence[Work], events: asyncio.Queue
    ) -> AsyncGenerator[Event, None]:
        """Submit pieces of work to the worker of a call, and yield their events until all end.

        Work is cancelled when nobody waits for it.

        Args:
            works: pieces of work with `events` as their queue and their positions as indices.

        Raises:
            Refusal: there is no room, or no answer in time.
        """
        worker, left = call.served.worker, len(works)
        with worker.reserve(left):
            try:
                for work in works:
                    worker.submit(work)
                async with asyncio.timeout(call.deadline + _SLACK - time.monotonic()):
                    while left:
                        event = await events.get()
                        if event.error is not None:
                            raise event.error
                        left -= event.last
                        yield event
            except TimeoutError as error:
                raise errors.too_late(self.limits.seconds) from error
            finally:
                for work in works:
                    work.cancelled = True

    async def results(self, call: Call, works: Sequence[Work], events: asyncio.Queue) -> list[Any]:
        """Return the value of the last event of each piece of work; see `events`.

        Raises:
            Refusal: see `events`; or the client has gone.
        """

        async def collect() -> list[Any]:
            values: list[Any] = [None] * len(works)
            async for event in self.events(call, works, events):
                if event.last:
                    values[event.index] = event.value
            return values

        collecting = asyncio.ensure_future(collect())
        leaving = asyncio.ensure_future(_disconnected(call.request))
        try:
            await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                raise Refusal(499, "The client has gone.")
            return collecting.result()
        finally:
            for task in (collecting, leaving):
                task.cancel()
            await asyncio.gather(collecting, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Wait until the client has gone; the body of the request must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
