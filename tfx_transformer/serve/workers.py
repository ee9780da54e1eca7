"""Several processes that answer at one address: one that ends is replaced."""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection, reduction, resource_tracker
from typing import IO, Any

from tfx_transformer.errors import InputError

# A function that answers requests at a socket until a signal comes. When it begins to answer, it
# calls its second argument with a function that ends it. It is pickled for another process.
Answering = Callable[[socket.socket, Callable[[Callable[[], None]], None]], None]

# Seconds before an ended worker is replaced; they double after each worker that never answered.
_SOONEST, _LATEST = 0.5, 30.0
# Seconds beyond the grace period after which a worker is killed.
_MORE = 5.0


class Workers:
    """Processes that answer at one address.

    Args:
        count: number of the processes.
        answer: see `Answering`.
        listening: a socket that listens, which all share.
        grace: seconds for running answers when the workers end.
    """

    def __init__(
        self, count: int, answer: Answering, listening: socket.socket, grace: float
    ) -> None:
        self._answer: Any = answer
        self._listening, self._grace = listening, grace
        self._slots = [_Slot(number) for number in range(1, count + 1)]

    def run(self, ready: Callable[[], Any]) -> None:
        """Start the workers and replace those that end, until an exception comes, such as that of
        a signal; then end all workers.

        Args:
            ready: called when the first worker answers requests.

        Raises:
            InputError: the first worker does not start, or no temporary file can be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
                content = memoryview(pickle.dumps(self._answer))
                while content:  # a disk that is nearly full takes a part
                    content = content[os.write(file.fileno(), content) :]
            except OSError as error:  # such as a full disk
                raise InputError(
                    f"the folder {tempfile.gettempdir()} cannot hold what the workers share: "
                    f"{error.strerror}.\n"
                    "  Make room there, or name another folder in TMPDIR."
                ) from error
            self._answer = _Stored(file)
            self._run(ready)

    def _run(self, ready: Callable[[], Any]) -> None:
        first, *others = self._slots
        try:
            self._start(first)
            first.wait_until_it_answers()
            ready()
            for slot in others:
                self._start(slot)
            while True:
                self._watch()
        finally:
            self._end()

    def _start(self, slot: _Slot) -> None:
        slot.answers, slot.refusal = False, ""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (self._answer, self._listening, theirs, _Errors())
        process = context.Process(target=_work, args=arguments, name=f"worker-{slot.number}")
        with _signals_wait():  # else a signal could come before the slot knows its process
            process.start()
            slot.process, slot.pipe = process, ours
        theirs.close()

    def _watch(self) -> None:
        """Wait for an event of a worker or for the time to replace one, and handle it."""
        now = time.monotonic()
        running = [slot for slot in self._slots if slot.process is not None]
        waiting = [slot.due - now for slot in self._slots if slot.process is None]
        pipes = [slot.pipe for slot in running if not slot.answers]
        sentinels = [slot.process.sentinel for slot in running]
        ended = connection.wait([*pipes, *sentinels], max(0.0, min([1.0, *waiting])))
        for slot in running:
            if slot.pipe in ended and not slot.answers:
                slot.receive()
            if slot.process.sentinel in ended:
                self._note_end(slot)
        for slot in self._slots:
            if slot.process is None and slot.due <= time.monotonic():
                self._replace(slot)

    def _replace(self, slot: _Slot) -> None:
        try:
            self._start(slot)
        except OSError as error:  # too many processes, too little memory
            print(f"worker {slot.number} cannot start: {error}.", file=sys.stderr, flush=True)
            slot.postpone()

    def _note_end(self, slot: _Slot) -> None:
        slot.process.join()
        slot.postpone()
        message = f"worker {slot.number} (process {slot.process.pid}) {_end_of(slot.process)}"
        why = f"\n{slot.refusal}" if slot.refusal else ""
        print(f"{message}; starting it again.{why}", file=sys.stderr, flush=True)
        slot.close()

    def _end(self) -> None:
        """Ask all workers to finish their answers; kill those that do not."""
        running = [slot for slot in self._slots if slot.process is not None]
        for slot in running:
            slot.process.terminate()
        last = time.monotonic() + self._grace + _MORE
        for slot in running:
            slot.process.join(max(0.0, last - time.monotonic()))
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.close()


class _Slot:
    """The place of one worker.

    number: from 1; process, pipe: of the worker that runs, or None; answers: True once it answers
    requests; refusal: its reason not to start, or ""; due: when the next one starts, in seconds of
    `time.monotonic`; delay: seconds until then.
    """

    def __init__(self, number: int) -> None:
        self.number, self.answers, self.refusal = number, False, ""
        self.due, self.delay = 0.0, _SOONEST
        self.process: Any = None
        self.pipe: Any = None

    def receive(self) -> None:
        """Take the worker's message: None when it answers requests, or its refusal. A worker that
        has ended sends none."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            return
        self.answers, self.refusal = message is None, message or ""

    def wait_until_it_answers(self) -> None:
        """Raise an InputError if the worker does not start."""
        connection.wait([self.pipe, self.process.sentinel])
        self.receive()
        if self.answers:
            return
        self.process.join()
        raise InputError(
            self.refusal or f"the server's process {_end_of(self.process)} while it started."
        )

    def postpone(self) -> None:
        """Set the time of the next start."""
        self.delay = _SOONEST if self.answers else min(2 * self.delay, _LATEST)
        self.due = time.monotonic() + self.delay

    def close(self) -> None:
        """Forget a process that has ended."""
        self.pipe.close()
        self.process.close()
        self.process = self.pipe = None


def _end_of(process: Any) -> str:
    """Return how a process ended, as the end of a sentence."""
    code = process.exitcode
    return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM, also in processes that start meanwhile, until they call
    `_take_signals`. Windows has no mask of signals, so nothing is held back there.

    The mask is that of one thread. The system gives a signal to another thread, of a numerical
    library for example, which leads to Python's handler too. Python runs handlers in its main
    thread only: there they wait as well.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start would unblock them
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers, held = {}, []
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in numbers}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: held.append(number))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in held:
            signal.raise_signal(number)


def _take_signals() -> None:
    """Let SIGTERM end this process. The terminal sends Ctrl+C to all processes; until the server
    answers, only the parent reacts to it."""
    if hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])


class _Stored:
    """The value of a pickle in an open file, as an argument of processes that start.

    An argument itself is written into a pipe: if it is larger than the pipe, and the process is
    killed before it reads, the writer waits forever. Windows cannot pass an open file on so: there
    the argument is the content.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        if not hasattr(reduction, "DupFd"):
            return pickle.loads, (_content(self._file),)
        return _read_stored, (reduction.DupFd(self._file.fileno()),)


def _content(file: IO[bytes]) -> bytes:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content[:]


def _read_stored(duplicate: Any) -> Any:
    with os.fdopen(duplicate.detach(), "rb") as file:
        return pickle.loads(_content(file))


class _Errors:
    """Standard error, as an argument of a process that starts: there it is a file, or None."""

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return _open_errors, (reduction.DupFd(sys.stderr.fileno()),)
        except (AttributeError, OSError, ValueError):  # Windows, a notebook
            return _open_errors, (None,)


def _open_errors(duplicate: Any) -> Any:
    if duplicate is None:
        return None
    return os.fdopen(duplicate.detach(), "w", errors="backslashreplace", buffering=1)


def _work(answer: Answering, listening: socket.socket, pipe: Any, errors: Any) -> None:
    """Answer requests in a process of its own, until a signal comes or the parent has ended."""
    _take_signals()
    if errors is not None:
        sys.stderr = errors

    def ready(finish: Callable[[], None]) -> None:
        pipe.send(None)

        def wait_for_the_parent() -> None:
            try:
                pipe.recv()  # nothing is ever sent
            except (EOFError, OSError):
                finish()

        threading.Thread(target=wait_for_the_parent, daemon=True).start()

    try:
        answer(listening, ready)
    except InputError as error:
        pipe.send(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
