"""A server in a thread, for tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import uvicorn

from tfx_transformer.serve import Limits, Service, create_app
from tfx_transformer.serve.server import listen


class Running(NamedTuple):
    """A server that answers: its address, a client of it, and its models."""

    url: str
    client: httpx.Client
    service: Service

    def post(self, path: str, **body: Any) -> httpx.Response:
        """The response to a request."""
        return self.client.post(path, json=body)


@contextlib.contextmanager
def running(
    paths: Sequence[Path],
    key: str | None = None,
    more: Sequence[tuple] = (),
    pages: Any = None,
    **limits: Any,
) -> Iterator[Running]:
    """Run a server with bundles, models of `Service.add` and pages until the block ends."""
    listening = listen("127.0.0.1", 0)
    service = Service(paths, Limits(**limits), threads=1)
    for model in more:
        service.add(*model)
    app = create_app(service, key, () if key else ("127.0.0.1", "localhost"), pages)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Running(url, client, service)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
