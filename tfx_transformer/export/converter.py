"""One process that converts any number of SavedModels to TFLite files."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# An error shows the last so many characters of the converter's log.
_LOG = 2000


class Converter:
    """A process that runs LiteRT's converter, which leaks memory and prints from C++.

    The process starts at once, so that it imports TensorFlow while this process traces the model;
    it converts one SavedModel after the other.

        with Converter() as converter:
            converter.submit(request)
            ...
            converter.wait()
    """

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed in `__exit__`
        script = Path(__file__).with_name("convert_litert.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._waiting = 0

    def submit(self, request: dict[str, Any]) -> None:
        """Request the conversion of one SavedModel.

        Args:
            request: "saved_model", its folder; "names" of the signatures; "files", the path of each
                variant to write ("float32", "int8", "int4", "full_int8"); and for "full_int8"
                "calibration", a .npy file of images, and perhaps "byte_ends": True for input and
                output in uint8.
        """
        self._waiting += 1
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `wait` raises the cause

    def wait(self) -> None:
        """Wait until all requested files are written.

        Raises:
            RuntimeError: a conversion failed; the message has the end of the converter's log.
        """
        while self._waiting:
            self._waiting -= 1
            answer = self._process.stdout.readline()
            if answer.strip() != "done":
                self._log.seek(0)
                log = self._log.read().decode(errors="replace")
                raise RuntimeError(f"the TFLite converter failed:\n{log[-_LOG:]}")

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, *_) -> None:
        # The files are written, or after an error nobody waits for them. To let the process end by
        # itself would take seconds.
        self._process.kill()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()
