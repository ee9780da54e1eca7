"""The verb that answers requests over HTTP: serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfx_transformer.cli.engines import Variant


def serve(
    bundle: Path,
    /,
    *bundles: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    variant: Variant | None = None,
    threads: int | None = None,
    queue: int = 128,
    timeout: float = 60.0,
    grace: float = 10.0,
    allow_host: Sequence[str] = (),
    without_key: bool = False,
) -> None:
    """Serve bundles over HTTP, with OpenAI's API and without TensorFlow.

    Args:
        bundle: Folder of a bundle, such as saved_models/assistant.
        bundles (BUNDLE): Further bundles, of any task.
        host (NAME): Address to listen at; one that other machines reach needs a key in TFX_API_KEY.
        port: Port to listen at; 0 takes a free one.
        variant: TFLite file to run. [the first in the bundle]
        threads: Threads of each model. [one for each core]
        queue: Most texts of a model that wait or run at a time.
        timeout: Most seconds for a request.
        grace: Most seconds for running answers when the server ends.
        allow_host (NAME): Further name of the server, such as that of a proxy.
        without_key: Answer everybody who reaches the address, without a key.
    """
    from tfx_transformer.serve import Limits
    from tfx_transformer.serve.server import serve as run_server

    def ready(url: str) -> None:
        print(f"Serving at {url} until Ctrl+C; {url}/openapi.json describes it.", flush=True)

    run_server(
        [bundle, *bundles],
        host,
        port,
        limits=Limits(queue=queue, seconds=timeout, grace=grace),
        variant=variant,
        threads=threads,
        allow_hosts=allow_host,
        without_key=without_key,
        ready=ready,
    )
