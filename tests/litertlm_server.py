"""`litert-lm serve`, Google's server of `.litertlm` files, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., str]


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Ask]:
    """Run the server until the block ends; yield a function that sends it a request: (endpoint,
    fields) -> the text of its response.

    Args:
        home: an empty folder, in which the server may write.
    """
    file = Path(sys.executable).with_name("litert-lm")
    if not file.exists():
        pytest.skip("no litert-lm: pip install litert-lm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(file), "serve", "--port", str(port)],
        env=os.environ | {"LITERT_LM_DIR": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1/"

    def send(endpoint: str, **body: Any) -> str:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url + endpoint, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read().decode("utf-8")

    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(url + "models", timeout=60).close()
                break
            assert process.poll() is None, "the server has ended"
            time.sleep(0.1)
        yield send
    finally:
        process.terminate()
        process.wait()


def chat(send: Ask, file: Path, text: str, **fields: Any) -> str:
    """Return the server's answer to a message."""
    messages = [{"role": "user", "content": text}]
    answer = json.loads(send("chat/completions", model=str(file), messages=messages, **fields))
    return answer["choices"][0]["message"]["content"]
