"""Headless Chromium by its DevTools protocol: opens a page, asks it, looks at it."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chromium import QUIET, executable


class Tab:
    """One page. Requests that it made: `addresses`; what it logged and threw: `said`."""

    def __init__(self, write: int, read: int, seconds: float) -> None:
        self._write, self._read, self._seconds = write, read, seconds
        self._count, self._left = 0, b""
        self.addresses: list[str] = []
        self.said: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"}, session=None)
        attached = self._call(
            "Target.attachToTarget",
            {"targetId": target["targetId"], "flatten": True},
            session=None,
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, values: dict[str, Any] | None = None, session: str | None = ""):
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": values or {}}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message(method)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _message(self, waiting_for: str) -> dict[str, Any]:
        end = time.monotonic() + self._seconds
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("\n".join([f"no answer to {waiting_for}", *self.said]))
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.addresses.append(values["request"]["url"])
        elif event.get("method") == "Runtime.consoleAPICalled":
            said = " ".join(str(one.get("value", one)) for one in values["args"])
            self.said.append(f"{values['type']}: {said}")
        elif event.get("method") == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.said.append(f"threw: {details.get('exception', {}).get('description', details)}")
        elif event.get("method") == "Log.entryAdded":
            self.said.append(f"log: {values['entry']['text']}")

    def open(self, address: str, language: str = "en") -> None:
        """Open an address, and wait until the page's model is ready."""
        self._call("Emulation.setLocaleOverride", {"locale": language})
        self._call("Page.navigate", {"url": address})
        for _ in range(200):
            if self.evaluate("typeof tfx !== 'undefined'"):
                break
            time.sleep(0.05)
        if not self.evaluate("tfx.ready"):
            status = self.evaluate("document.querySelector('.status').textContent")
            raise RuntimeError("\n".join([status, *self.said]))

    def evaluate(self, script: str) -> Any:
        """The value of an expression; promises are waited for."""
        found = self._call(
            "Runtime.evaluate",
            {"expression": script, "awaitPromise": True, "returnByValue": True},
        )
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def ask(self, name: str, request: dict[str, Any], options: dict[str, Any] | None = None) -> Any:
        """An answer of the page's worker; typed arrays become lists."""
        values = f"{json.dumps(request)}, {json.dumps(options or {})}"
        plain = "(_, v) => ArrayBuffer.isView(v) ? Array.from(v) : v"
        text = f"tfx.ask({json.dumps(name)}, {values}).then((a) => JSON.stringify(a, {plain}))"
        answer = self.evaluate(text)
        return None if answer is None else json.loads(answer)

    def choose(self, selector: str, paths: Sequence[Path]) -> None:
        """Choose files in a field."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", {"nodeId": root, "selector": selector})
        chosen = {"nodeId": node["nodeId"], "files": list(map(str, paths))}
        self._call("DOM.setFileInputFiles", chosen)

    def look(self, file: Path, width: int, dark: bool = False, height: int = 900) -> None:
        """Save a picture of the whole page."""
        self.resize(width, dark, height)
        time.sleep(0.3)
        shot = self._call("Page.captureScreenshot", {"captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(shot["data"]))

    def resize(self, width: int, dark: bool = False, height: int = 900) -> None:
        """Give the window another size, and the colours that a light or dark screen asks for."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", {"features": [scheme]})


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Yields the address of a folder behind Python's own server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def tab(flags: tuple[str, ...] = (), seconds: float = 30) -> Iterator[Tab]:
    """Yields a tab of a new browser with a profile of its own."""
    name = executable()
    if name is None:
        raise RuntimeError("Chromium is not installed")
    to_read, write = os.pipe()
    read, to_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [name, *QUIET, "--remote-debugging-pipe", *flags, f"--user-data-dir={folder}"]

        def pipes() -> None:
            os.dup2(to_read, 13)
            os.dup2(to_write, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            close_fds=False,
            preexec_fn=pipes,
        )
        for descriptor in (to_read, to_write):
            os.close(descriptor)
        try:
            yield Tab(write, read, seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for descriptor in (write, read):
                os.close(descriptor)
