"""The ASGI application: its addresses, and the checks of every request."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tfx_transformer import json_files
from tfx_transformer.errors import InputError
from tfx_transformer.serve import errors, fields, index, openapi, tasks
from tfx_transformer.serve.endpoints import Endpoint
from tfx_transformer.serve.errors import JSON, Refusal
from tfx_transformer.serve.limits import Limits
from tfx_transformer.serve.service import Call, Service
from tfx_transformer.serve.work import LOGGER

Handler = Callable[[Request], Awaitable[Response]]
# Addresses that answer without the key: they say nothing about the requests of others.
OPEN = ("/healthz", "/")
# Seconds for reading and discarding the rest of a body that is too long, so that the client gets
# the refusal.
_DRAIN = 2.0
# Seconds after its deadline in which a request may still be refused as too late.
_SLACK = 4.0
# Estimate of the bytes of a parsed value, on the high side.
_VALUE = 100
# Seconds beyond all deadlines after which a connection is closed.
_MORE = 15.0
# The beginning of the addresses of pages; seconds for sending a file of one, which may be 100 MB;
# and the bytes of it that are sent at a time, so that a slow reader takes no more memory.
_PAGES, _PAGE_SECONDS, _PART = "/pages/", 300.0, 1 << 18


def create_app(
    service: Service,
    key: str | None = None,
    hosts: Sequence[str] = (),
    pages: Mapping[str, Mapping[str, bytes]] | None = None,
) -> Any:
    """Return the ASGI application of a service; it starts and stops the service.

    Args:
        service: the models.
        key: the key of requests ("Authorization: Bearer KEY"); None: no key is needed.
        hosts: names under which the server answers, so that no page of another site can make a
            browser ask it (DNS rebinding); empty: all names.
        pages: name of a model -> the files of its page, made by `page.page_files`.
    """
    routes = [
        Route(endpoint.path, _answering(service, endpoint, names), methods=["POST"])
        for endpoint, names in tasks.endpoints()
    ]
    routes += _pages(service, key is not None, list(pages or ()))
    routes += [_page_of_model(pages)] if pages else []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()
        await asyncio.to_thread(service.join)

    handlers: dict[Any, Any] = {HTTPException: _refused_by_starlette}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return _Guard(app, service, key, hosts, [route.path for route in routes])


def _page_of_model(pages: Mapping[str, Mapping[str, bytes]]) -> Route:
    """Return the route of the pages' files; a page's HTML holds its content security policy."""

    async def page_file(request: Request) -> Response:
        name = request.path_params["file"] or "index.html"
        content = pages.get(request.path_params["name"], {}).get(name)
        if content is None:
            raise HTTPException(404)
        # The other files are unpacked by the page itself.
        kind = "text/html; charset=utf-8" if name.endswith(".html") else "application/octet-stream"
        headers = {"Cache-Control": "no-cache", "Content-Length": str(len(content))}
        return StreamingResponse(_parts(content), media_type=kind, headers=headers)

    return Route(_PAGES + "{name}/{file:path}", page_file, methods=["GET"])


async def _parts(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PART):
        yield content[start : start + _PART]


def _pages(service: Service, has_key: bool, shown: Sequence[str]) -> list[Route]:
    """Return the routes of GET requests.

    Args:
        shown: names of the models that have a page.
    """
    served_tasks = {served.task for served in service.models.values()}
    answered = [
        endpoint for endpoint, names in tasks.endpoints() if not served_tasks.isdisjoint(names)
    ]
    models = [(served.id, served.task) for served in service.models.values()]
    html = index.page(models, answered, shown)
    described = openapi.description(answered, has_key)

    async def page(request: Request) -> Response:
        return HTMLResponse(html, headers={"Content-Security-Policy": index.POLICY})

    async def description(request: Request) -> Response:
        return JSON(described)

    async def health(request: Request) -> Response:
        healthy = service.is_healthy
        return JSON({"status": "ok" if healthy else "unavailable"}, 200 if healthy else 503)

    async def metrics(request: Request) -> Response:
        queues = [
            (served.worker.labels, served.worker.reserved) for served in service.models.values()
        ]
        return PlainTextResponse(
            service.metrics.text(queues), media_type="text/plain; version=0.0.4"
        )

    async def models_list(request: Request) -> Response:
        return JSON({"object": "list", "data": list(map(_model, service.models.values()))})

    async def one_model(request: Request) -> Response:
        served = service.models.get(request.path_params["name"])
        if served is None:
            raise HTTPException(404)
        return JSON(_model(served))

    pages: dict[str, Handler] = {
        "/": page,
        "/openapi.json": description,
        "/healthz": health,
        "/metrics": metrics,
        "/v1/models": models_list,
        "/v1/models/{name}": one_model,
    }
    return [Route(path, handler, methods=["GET"]) for path, handler in pages.items()]


def _model(served: Any) -> dict[str, Any]:
    """Return a model in OpenAI's form."""
    return {
        "id": served.id,
        "object": "model",
        "created": served.created,
        "owned_by": "tfx-transformer",
        "task": served.task,
    }


def _answering(service: Service, endpoint: Endpoint, names: list[str]) -> Handler:
    """Return the handler of requests to an endpoint.

    Args:
        names: the tasks whose models have the endpoint.
    """

    seconds = service.limits.seconds

    async def answer(request: Request) -> Response:
        held = _Held(service)
        try:
            deadline = time.monotonic() + seconds
            body = await _read_json(request, service.limits, endpoint, held)
            values = fields.read(body, endpoint.fields)
            served = service.find(values.get("model"), endpoint.path, names)
            client = request.client.host if request.client else ""
            call = Call(request, values, served, deadline, client)
            async with asyncio.timeout(seconds + _SLACK):
                return await endpoint.handle(service, call)
        except TimeoutError:  # before it was queued
            return errors.too_late(seconds).response()
        except Refusal as refusal:
            return refusal.response()
        except InputError as error:
            return Refusal(400, str(error), "invalid_value").response()
        except ClientDisconnect:
            return Refusal(499, "The client has gone.").response()
        except Exception:
            LOGGER.exception(f"fault in {endpoint.path}")
            service.metrics.count("tfx_faults_total", 'model=""')
            return Refusal(500, "The server failed: a fault of the program.", "fault").response()
        finally:
            held.release()

    return answer


class _Held:
    """The memory of a request until it is answered.

    Args:
        service: all its requests together may take `Limits.held` bytes.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._bytes = service, 0

    def add(self, count: int) -> None:
        """Take `count` bytes more.

        Raises:
            Refusal: all requests together take too much.
        """
        self._bytes += count
        self._service.held += count
        if self._service.held > self._service.limits.held:
            raise errors.overloaded(1.0)

    def release(self) -> None:
        """Give all of it back."""
        self._service.held -= self._bytes
        self._bytes = 0


async def _read_json(request: Request, limits: Limits, endpoint: Endpoint, held: _Held) -> Any:
    """Return the value of a request's body.

    Raises:
        Refusal: the body is not JSON, is too long, or arrives too slowly.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "Send JSON, with Content-Type: application/json.", "content_type")
    most = limits.image_body if endpoint.images else limits.body
    try:
        async with asyncio.timeout(limits.body_seconds):
            data = await _read_body(request, most, held)
    except TimeoutError as error:
        raise Refusal(
            408, f"The request did not arrive within {limits.body_seconds:g} seconds."
        ) from error
    if data is None:
        raise Refusal(
            413, f"The request has more than {most:,} bytes. Send fewer inputs at a time.",
            "too_large", headers={"Connection": "close"},
        )  # fmt: skip
    try:
        text = data.decode("utf-8")
        held.add(_VALUE * sum(map(text.count, "[{,:")))
        return json_files.parse(text, unique=True)
    except RecursionError as error:
        raise Refusal(400, "The request is nested too deeply.", "not_json") from error
    except ValueError as error:  # an InputError is one
        reason = str(error)[:200]
        raise Refusal(400, f"The request is not JSON: {reason}.", "not_json") from error


async def _read_body(request: Request, most: int, held: _Held) -> bytes | None:
    """Return a body; None if it has more than `most` bytes."""
    length = request.headers.get("content-length", "")
    too_long = length.isdecimal() and (len(length) > 15 or int(length) > most)
    data = bytearray()
    parts = request.stream()
    async for part in parts:
        if too_long or len(data) + len(part) > most:
            break
        held.add(len(part))
        data += part
    else:
        return bytes(data)
    data.clear()
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DRAIN):
            async for _ in parts:
                pass
    return None


async def _refused_by_starlette(request: Request, error: HTTPException) -> Response:
    """Return the response for an unknown address, or for a method that it does not answer."""
    path = request.url.path[:100]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        text = f"{path} answers {allowed}, not {request.method[:20]}."
        return Refusal(405, text, headers=dict(error.headers or {})).response()
    return Refusal(error.status_code, f"There is no {path}. See / or /openapi.json.").response()


class _Guard:
    """The checks of all requests: the key, the host name, the time; and their counts.

    Args:
        app: the application; service, key, hosts: see `create_app`.
        paths: paths that are counted by name; all others are counted as "other".
    """

    def __init__(
        self, app: Any, service: Service, key: str | None, hosts: Sequence[str], paths: list[str]
    ) -> None:
        self._app, self._service = app, service
        self._key = None if key is None else key.encode("utf-8")
        self._hosts, self._paths = frozenset(hosts), frozenset(paths)
        self._active = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 499

        async def send_guarded(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        limits = self._service.limits
        seconds = limits.seconds + limits.body_seconds + _MORE
        if scope["path"].startswith(_PAGES):
            seconds = _PAGE_SECONDS
        self._active += 1
        try:
            refusal = self._refusal(Request(scope))
            async with asyncio.timeout(seconds):
                await (refusal.response() if refusal else self._app)(scope, receive, send_guarded)
        except TimeoutError:
            pass  # the client does not read its answer; the connection is closed
        finally:
            self._active -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._service.metrics.count("tfx_requests_total", f'path="{path}",status="{status}"')
            self._service.metrics.observe(path, time.monotonic() - began)

    def _refusal(self, request: Request) -> Refusal | None:
        """Return the refusal of a request by load, host name or key; None if it passes."""
        if self._active > self._service.limits.requests:
            return errors.overloaded(1.0)
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self._hosts and name.lower() not in self._hosts:
            return Refusal(
                403,
                "This server does not answer under this name. Start it with --allow-host NAME to "
                "allow the name.",
                "host",
            )
        if self._key is None or request.url.path in OPEN:
            return None
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("utf-8", "surrogateescape"), self._key
        ):
            return None
        return Refusal(
            401,
            "Send the key of this server: Authorization: Bearer KEY.",
            "invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
