"""The server process: its address, its key, its start and end."""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import uvicorn

from tfx_transformer.errors import InputError
from tfx_transformer.serve.app import create_app
from tfx_transformer.serve.limits import Limits
from tfx_transformer.serve.service import Service
from tfx_transformer.serve.workers import Workers

KEY = "TFX_API_KEY"
# Fewest characters of a key: the length of `secrets.token_urlsafe(12)`.
_SHORTEST = 16
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Most connections, so that nobody takes all descriptors of the process. `Limits.requests` is lower.
_CONNECTIONS = 900
# Most bytes of a request's line and headers.
_HEADERS = 16 << 10
_NEW_KEY = 'export TFX_API_KEY=$(python -c "import secrets; print(secrets.token_urlsafe(24))")'


def serve(
    paths: Sequence[str | os.PathLike],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    limits: Limits | None = None,
    variant: str | None = None,
    threads: int | None = None,
    allow_hosts: Sequence[str] = (),
    without_key: bool = False,
    workers: int = 1,
    pages: Mapping[str, Mapping[str, bytes]] | None = None,
    ready: Callable[[str], Any] | None = None,
) -> None:
    """Answer requests with bundles until SIGTERM or SIGINT.

    If the environment variable TFX_API_KEY is set, all requests need this key.

    Args:
        paths: folders of bundles, or of indexes.
        host: address to listen at; one that other machines reach needs the key, or `without_key`.
        port: 0 takes a free one.
        limits: see `Limits`.
        variant, threads: see `runtime.load`.
        allow_hosts: further names of the server. Without a key, a server at a loopback address
            answers only under these names and the loopback names, so that no page in a browser
            reaches it under a name of its own.
        without_key: answer everybody who reaches the address.
        workers: processes that answer; with several, one that ends is replaced.
        pages: name of a model -> the files of its page, made by `page.page_files`, which are at
            /pages/NAME/.
        ready: called with the URL when the server answers requests.

    Raises:
        InputError: a bundle cannot be loaded, or the address cannot be used or would be open to
            everybody; or there are pages and a key.
    """
    limits = limits or Limits()
    key = read_key()
    is_open = not _is_loopback(host)
    if is_open and key is None and not without_key:
        raise InputError(
            f"other machines can reach the address {host}, and there is no key.\n"
            f"  Set one: {_NEW_KEY}\n"
            "  or answer everybody: --without-key."
        )
    if workers < 1:
        raise InputError(f"--workers is {workers}.\n  Expected 1 or more.")
    if pages:
        refuse_pages_with_a_key()
    # Host names are checked only where coming from this machine is all that a request needs.
    hosts = () if is_open or key is not None else (*_LOOPBACK, *map(str.lower, allow_hosts))
    answer = functools.partial(
        _answer, [os.fspath(path) for path in paths], limits, variant, threads, key, hosts, pages
    )
    with listen(host, port) as listening:

        def announce() -> None:
            if ready:
                ready(_url(host, listening))

        if workers == 1:
            answer(listening, lambda finish: announce())
        else:
            Workers(workers, answer, listening, limits.grace).run(announce)


def _answer(
    paths: Sequence[str],
    limits: Limits,
    variant: str | None,
    threads: int | None,
    key: str | None,
    hosts: Sequence[str],
    pages: Mapping[str, Mapping[str, bytes]] | None,
    listening: socket.socket,
    ready: Callable[[Callable[[], None]], None],
) -> None:
    """Load the models and answer requests at a socket until a signal comes; see `serve`.

    Args:
        ready: called when requests are answered, with a function that ends the server.
    """
    # asyncio warns at each piece of an answer for a client that has gone.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    service = Service(paths, limits, variant, threads)
    config = uvicorn.Config(
        create_app(service, key, hosts, pages),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=round(limits.grace) + 2,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEADERS,
        http="h11",
    )
    server = _Server(config)
    server.service = service

    def finish() -> None:
        server.should_exit = True

    server.ready = lambda: ready(finish)
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that calls `ready` when it answers, and stops its models when it shuts down.

    After a signal it finishes running answers; then the signal is raised again.
    """

    service: Service
    ready: Callable[[], Any]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        if not self.should_exit:
            self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self.service.stop()
        await super().shutdown(sockets)


def read_key() -> str | None:
    """Return the key of the environment, or None.

    Raises:
        InputError: the key is too short, or cannot be sent in a header.
    """
    key = os.environ.get(KEY)
    if key is None:
        return None
    if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"{KEY} is not a valid key; it has {len(key)} characters.\n"
            f"  Expected {_SHORTEST} or more ASCII characters without spaces. {_NEW_KEY}"
        )
    return key


def refuse_pages_with_a_key() -> None:
    """Raise an InputError if requests need a key, which no page can send."""
    if read_key() is not None:
        raise InputError(
            f"a browser cannot send the key of {KEY} for a page.\n"
            "  Drop --page, or put the folder of `tfx-transformer page` on a web server."
        )


def _is_loopback(host: str) -> bool:
    """Return True if only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        InputError: the address cannot be used.
    """
    if not 0 <= port < 1 << 16:
        raise InputError(f"the port is {port}.\n  Expected 1 to 65,535, or 0 for a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        if os.name == "posix":  # on Windows this would let others listen at the same address
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot listen at {host}:{port}: {reason}.\n"
            "  Choose another --host or --port; --port 0 takes a free one."
        ) from error
    return made


def _url(host: str, listening: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}"
