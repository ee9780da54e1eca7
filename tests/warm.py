"""Python programs in copies of one process that has imported TensorFlow.

The import takes longer than most programs that tests start. The copies are made by fork, before
TensorFlow starts a thread: each program has modules, memory, standard streams, folder, environment
and exit status of its own, and `tfx_transformer` is not imported yet. Tests of the start itself use
`subprocess`.

    done = warm.run(["-m", "tfx_transformer.cli", "recipes"], cwd=tmp_path)
    program = warm.start(["-c", "input()"])
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

_MOST = 100_000  # bytes of a request: arguments, folder and environment


class Program:
    """A running copy; its methods are those of `subprocess.Popen`.

    pid: of its process; returncode: exit status, minus the signal that ended it, None before it
    ends.
    """

    def __init__(
        self, server: Path, arguments: list[str], cwd: str, env: Mapping[str, str]
    ) -> None:
        self.args, self.returncode = arguments, None
        new = functools.partial(tempfile.TemporaryFile, "w+", encoding="utf-8")
        self._streams = [new() for _ in range(3)]
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(str(server))
        request = json.dumps({"arguments": arguments, "folder": cwd, "env": dict(env)})
        numbers = [stream.fileno() for stream in self._streams]
        socket.send_fds(self._connection, [request.encode()], numbers)
        self.pid = int(self._connection.recv(20))

    def poll(self) -> int | None:
        """Return the exit status, or None while the program runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit status."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._connection.recv(20)))
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return standard output and standard error."""
        self.wait(timeout)
        for stream in self._streams:
            stream.seek(0)
        _, output, errors = [stream.read() for stream in self._streams]
        for stream in self._streams:
            stream.close()
        return output, errors


def start(
    arguments: Iterable[object],
    cwd: str | os.PathLike | None = None,
    env: Mapping[str, str] | None = None,
) -> Program | subprocess.Popen[str]:
    """Start a program.

    Args:
        arguments: those of Python: "-c" and code, "-m" and a module, or a file; and what follows.
        cwd: its folder, the present one unless given.
        env: its environment, that of this process unless given.
    """
    from slow import ALL_TESTS

    arguments = [str(argument) for argument in arguments]
    server = None if ALL_TESTS else _server()
    if server is None:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    return Program(server, arguments, str(cwd or Path.cwd()), os.environ if env is None else env)


def run(arguments: Iterable[object], **options) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; see `start`."""
    program = start(arguments, **options)
    output, errors = program.communicate()
    return subprocess.CompletedProcess(program.args, program.returncode, output, errors)


@functools.cache
def _server() -> Path | None:
    """Start the process of which programs are copies; return its socket, None if it cannot be
    copied."""
    if sys.platform != "linux":
        return None
    folder = tempfile.TemporaryDirectory(prefix="warm")
    path = Path(folder.name, "socket")
    process = subprocess.Popen(
        [sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    atexit.register(folder.cleanup)
    atexit.register(process.stdin.close)  # it ends
    return path if process.stdout.readline() == b"ready\n" else None


# The process itself


def _serve(path: str) -> None:
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    threads = {file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")}
    if threads - {Path("/proc/self/comm").read_text().strip(), "jemalloc_bg_thd"}:
        return  # threads are not copied, but that one is started again
    # Python 3.12 and later sees it, and warns.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(connection)
        connection.close()


def _attend(connection: socket.socket) -> None:
    """Start a copy, and send its process and its exit status."""
    content, streams, *_ = socket.recv_fds(connection, _MOST, 3)
    program = os.fork()
    if program == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(_run(json.loads(content)))
    connection.send(b"%d" % program)
    connection.send(b"%d" % os.waitpid(program, 0)[1])
    os._exit(0)


def _run(request: dict) -> int:
    """Run a program in this process; return its exit status."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    status = 1
    try:
        _execute(*request["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


def _execute(first: str, *rest: str) -> None:
    """Run what `python first rest…` runs."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    if first == "-m":
        sys.argv = list(rest)
        sys.path[0] = os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path[0] = ""
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = [first, *rest]
        sys.path[0] = str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1])
