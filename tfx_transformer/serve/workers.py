"""Several processes that answer at one address: one that ends is replaced."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from tfx_transformer.errors import InputError

# Answers requests at a socket until a signal comes. It calls its second argument when it answers,
# with a function that makes it finish; the process may be another one, so it is picklable.
Answering = Callable[[socket.socket, Callable[[Callable[[], None]], None]], None]

# Seconds until a worker that has ended is replaced: twice as many after each that never answered.
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
        self._answer, self._listening, self._grace = answer, listening, grace
        self._slots = [_Slot(number) for number in range(1, count + 1)]

    def run(self, ready: Callable[[], Any]) -> None:
        """Start the workers, and replace those that end, until an exception such as that of a
        signal ends it; then end them all.

        Args:
            ready: called when the first worker answers requests.

        Raises:
            InputError: the first worker refuses to start.
        """
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
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (self._answer, self._listening, theirs, _errors())
        process = context.Process(target=_work, args=arguments, name=f"worker-{slot.number}")
        process.start()
        theirs.close()
        slot.process, slot.pipe = process, ours
        slot.answers = False

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
                self._start(slot)

    def _note_end(self, slot: _Slot) -> None:
        slot.process.join()
        slot.delay = _SOONEST if slot.answers else min(2 * slot.delay, _LATEST)
        slot.due = time.monotonic() + slot.delay
        message = f"worker {slot.number} (process {slot.process.pid}) {_end_of(slot.process)}"
        print(f"{message}; starting it again.", file=sys.stderr, flush=True)
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
    requests; due: when the next one starts, in seconds of `time.monotonic`; delay: seconds until
    then.
    """

    def __init__(self, number: int) -> None:
        self.number, self.answers, self.due, self.delay = number, False, 0.0, _SOONEST
        self.process: Any = None
        self.pipe: Any = None

    def receive(self) -> str | None:
        """Return a worker's message: None if it answers requests, else why it refuses to start."""
        try:
            refusal = self.pipe.recv()
        except (EOFError, OSError):
            return ""
        self.answers = refusal is None
        return refusal

    def wait_until_it_answers(self) -> None:
        """Raise an InputError if the worker refuses to start."""
        connection.wait([self.pipe, self.process.sentinel])
        refusal = self.receive()
        if refusal is None:
            return
        self.process.join()
        raise InputError(
            refusal or f"the server's process {_end_of(self.process)} while it started."
        )

    def close(self) -> None:
        """Forget a process that has ended."""
        self.pipe.close()
        self.process.close()
        self.process = self.pipe = None


def _end_of(process: Any) -> str:
    """Return the words for the end of a process."""
    code = process.exitcode
    return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


def _errors() -> Any:
    """Return standard error in a form that another process can use, or None."""
    from multiprocessing import reduction

    try:
        return reduction.DupFd(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # Windows, a notebook
        return None


def _work(answer: Answering, listening: socket.socket, pipe: Any, errors: Any) -> None:
    """Answer requests in a process of its own, until a signal comes or the parent has ended."""
    if errors is not None:
        sys.stderr = os.fdopen(errors.detach(), "w", errors="backslashreplace", buffering=1)

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
