"""Runs exported files in LiteRT.js: a page in headless Chromium, and the server it talks to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
TYPES = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm"}

# Nothing but the page; a container has no sandbox to offer.
QUIET = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)
# WebGPU on SwiftShader, a Vulkan in software that Chromium brings.
SWIFTSHADER = (
    "--enable-unsafe-webgpu",
    "--enable-features=Vulkan,WebGPU",
    "--use-vulkan=swiftshader",
    "--use-webgpu-adapter=swiftshader",
)


@dataclasses.dataclass
class Report:
    """The result of a page.

    Attributes:
        device: of WebGPU; None if there is none.
        answers: by name of the model, see `page.js`.
        console: messages, in order.
        errors: of the page.
    """

    device: str | None = None
    answers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    console: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)


def executable() -> str | None:
    """The path of Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def run(
    modules: Path,
    files: Path,
    request: dict[str, Any],
    flags: tuple[str, ...] = (),
    seconds: float = 300,
) -> Report:
    """Open the page and wait for its answers.

    Args:
        modules: a folder `node_modules` that holds `@litertjs`.
        files: the folder of the models.
        request: for `page.js`: "load" and "options" are those of LiteRT.js; of each of "models"
            its "name", "file", "signatures" (inputs by name), "prompts", "steps" and "config".
        flags: of Chromium, beside those that keep it quiet.
        seconds: until the page must be done.

    Raises:
        RuntimeError: the page had an error, ended or was too slow; with all that it said.
    """
    posts: queue.Queue[dict[str, Any]] = queue.Queue()
    folders = {"node_modules": modules, "files": files, "page": HERE}
    found, deadline = Report(), time.monotonic() + seconds
    with _server(folders, request, posts) as address, _browser(address, flags) as (process, log):
        while not found.errors:
            try:
                ((kind, value),) = posts.get(timeout=1).items()
            except queue.Empty:
                if process.poll() is not None:
                    found.errors.append(f"Chromium ended with status {process.returncode}")
                elif time.monotonic() > deadline:
                    found.errors.append(f"no answer within {seconds} seconds")
                continue
            if kind == "done":
                return found
            if kind == "answer":
                found.answers[value.pop("name")] = value
            elif kind == "device":
                found.device = value
            else:
                {"console": found.console, "error": found.errors}[kind].append(value)
        said = log.read_text(errors="replace").splitlines()
    # Most of the log is D-Bus, which headless Chromium does without, and what the page reported.
    said = [line for line in said if "dbus" not in line.lower() and "report.js" not in line]
    lines = [*found.errors, "Console:", *found.console, "Chromium:", *said[-30:]]
    raise RuntimeError("\n".join(lines))


@contextlib.contextmanager
def _server(folders: dict[str, Path], request: dict[str, Any], posts: queue.Queue) -> Iterator[str]:
    """Yields the address of the page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/request":
                self.answer(200, json.dumps(request).encode(), "application/json")
                return
            first, _, rest = self.path.lstrip("/").partition("/")
            folder = folders.get(first, HERE).resolve()
            file = (folder / rest).resolve()
            if first in folders and file.is_relative_to(folder) and file.is_file():
                kind = TYPES.get(file.suffix, "application/octet-stream")
                self.answer(200, file.read_bytes(), kind)
            else:
                if self.path != "/favicon.ico":
                    posts.put({"console": f"server: there is no {self.path}"})
                self.answer(404)

        def do_POST(self) -> None:
            posts.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(204)

        def answer(self, status: int, content: bytes = b"", kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            # WebAssembly has threads only in pages that are isolated so.
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page/page.html"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _browser(address: str, flags: tuple[str, ...]) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Yields the process, with a new profile, and the file of what it says on standard error."""
    name = executable()
    if name is None:
        raise RuntimeError(f"none of {', '.join(NAMES)} is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        command = [name, *QUIET, *flags, f"--user-data-dir={folder}/profile", address]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            yield process, log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
