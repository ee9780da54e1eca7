"""The verb that answers requests over HTTP: serve."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tfx_transformer.cli.engines import Variant
from tfx_transformer.errors import InputError


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
    workers: int = 1,
    page: bool = False,
    litert_js: Path | None = None,
) -> None:
    """Serve bundles and indexes over HTTP, with OpenAI's API and without TensorFlow.

    Args:
        bundle: Folder of a bundle, such as saved_models/assistant, or of an index.
        bundles (BUNDLE): Further bundles, of any task, and indexes.
        host (NAME): Address to listen at; one that other machines reach needs a key in TFX_API_KEY.
        port: Port to listen at; 0 takes a free one.
        variant: TFLite file to run. [the first in the bundle]
        threads: Threads of each model. [one for each core]
        queue: Most texts of a model that wait or run at a time.
        timeout: Most seconds for a request.
        grace: Most seconds for running answers when the server ends.
        allow_host (NAME): Further name of the server, such as that of a proxy.
        without_key: Answer everybody who reaches the address, without a key.
        workers: Processes that answer; with several, one that ends is replaced.
        page: Also serve pages that run the bundles in the browser, like those of the verb page.
        litert_js (PATH): The npm package @litertjs/core, or its archive, for --page. [downloaded
            once]
    """
    from tfx_transformer.serve import Limits
    from tfx_transformer.serve.server import refuse_pages_with_a_key
    from tfx_transformer.serve.server import serve as run_server

    def ready(url: str) -> None:
        print(f"Serving at {url} until Ctrl+C; {url}/openapi.json describes it.", flush=True)

    if page:
        refuse_pages_with_a_key()  # before LiteRT.js is downloaded
    run_server(
        [bundle, *bundles],
        host,
        port,
        limits=Limits(queue=queue, seconds=timeout, grace=grace),
        variant=variant,
        threads=threads,
        allow_hosts=allow_host,
        without_key=without_key,
        workers=workers,
        pages=_pages([bundle, *bundles], variant, litert_js) if page else None,
        ready=ready,
    )


def _pages(
    served: Sequence[Path], variant: Variant | None, litert_js: Path | None
) -> dict[str, dict[str, bytes]]:
    """Return the files of each bundle's page, by the bundle's name; print the bundles and indexes
    that cannot have a page, with the reason."""
    found = {}
    for path in served:
        try:
            found[path.resolve().name] = _page(path, variant, litert_js)
        except InputError as error:
            if len(served) == 1:
                raise
            print(f"{path} has no page: {error}", file=sys.stderr)
    return found


def _page(path: Path, variant: Variant | None, litert_js: Path | None) -> dict[str, bytes]:
    from tfx_transformer.page import page_files
    from tfx_transformer.search.store import FACTS

    if (path / FACTS).is_file():
        raise InputError(
            f"{path} is an index, and its rows stay on the server.\n"
            "  Pages are for bundles: drop --page, or serve a bundle too."
        )
    return page_files(path, variant, litert_js)
