"""Kills and signals at random moments of small trainings; every one is to end as if never touched.

    python tests/faults/kill_runs.py kills --count 200 --runs 40
    python tests/faults/kill_runs.py signals --count 20

Trainings are processes of their own, forked from this one after it has imported TensorFlow. One in
three kills strikes while a checkpoint is written, one after some steps, one at any moment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from tfx_transformer import flags  # noqa: E402

flags.hush()

import keras  # noqa: E402
import small_runs  # noqa: E402

KILLS_OF_A_RUN = 5
MOMENTS = ("save", "steps", "any")
# A checkpoint is to be there so many seconds after the signal.
PATIENCE = 5.0


class Beats(keras.callbacks.Callback):
    """Writes a byte to a pipe after each step, so that the parent knows where a training is."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe

    def on_train_batch_end(self, batch, logs=None):
        os.write(self.pipe, b".")


class Process:
    """A training in a process of its own; its output goes to `log.txt` in its folder."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder, self.begin, self.status = folder, time.monotonic(), None
        self.beats, writing = os.pipe()
        os.set_blocking(self.beats, False)
        self.pid = os.fork()
        if self.pid == 0:
            log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for descriptor in (1, 2):
                os.dup2(log, descriptor)
            sys.stderr = sys.stdout  # so that `guarded` opens descriptor 2 anew
            chosen = argparse.Namespace(json=False, debug=False)
            flags.run_action(lambda: small_runs.train(kind, folder, [Beats(writing)]), chosen)
        os.close(writing)

    def alive(self) -> bool:
        """Whether it still runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is None

    def wait(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Waits for the end, or until something holds; returns whether it still runs then."""
        while self.alive() and not until():
            time.sleep(0.0005)
        return self.alive()

    def steps(self, count: int) -> Callable[[], bool]:
        """Whether so many steps have been made, those of earlier processes among them."""
        seen = 0

        def reached() -> bool:
            nonlocal seen
            with contextlib.suppress(BlockingIOError):
                seen += len(os.read(self.beats, 1000))
            return seen >= count

        return reached

    def seconds(self, count: float) -> Callable[[], bool]:
        """Whether so many seconds have passed since it began."""
        return lambda: time.monotonic() - self.begin > count

    def saving(self) -> bool:
        """Whether a checkpoint is being written or removed."""
        return any(self.folder.glob("run/checkpoints/.step_*"))

    def end(self) -> int:
        """Its exit status once it has ended; minus the signal that ended it."""
        self.wait()
        os.close(self.beats)
        return os.waitstatus_to_exitcode(self.status)


def reference(kind: str, root: Path) -> tuple[dict, float]:
    """What an undisturbed training leaves, and its seconds."""
    folder = root / kind / "undisturbed"
    folder.mkdir(parents=True)
    process = Process(kind, folder)
    status = process.end()
    if status:
        sys.exit(f"{kind}: the undisturbed training failed:\n" + (folder / "log.txt").read_text())
    return json.loads((folder / "result.json").read_text()), time.monotonic() - process.begin


def strike(process: Process, moment: str, seconds: float) -> None:
    """Waits for the moment and kills the training, unless it ended before."""
    until = {
        "save": process.saving,
        "steps": process.steps(random.randint(1, 40)),
        "any": process.seconds(random.uniform(0, seconds)),
    }[moment]
    skipped = random.randint(0, 3) if moment == "save" else 0
    for _ in range(skipped):  # not always the first checkpoint of a process
        process.wait(process.saving)
        process.wait(lambda: not process.saving())
    process.wait(until)
    time.sleep(random.uniform(0, 0.02))
    if process.alive():
        os.kill(process.pid, signal.SIGKILL)


def kills(arguments: argparse.Namespace, root: Path) -> int:
    """SIGKILL until there were enough; returns how many trainings ended otherwise."""
    known = {kind: reference(kind, root) for kind in arguments.kinds}
    done = runs = wrong = 0
    moments = dict.fromkeys(MOMENTS, 0)
    while done < arguments.count or runs < arguments.runs:
        kind = arguments.kinds[runs % len(arguments.kinds)]
        result, seconds = known[kind]
        folder = root / kind / f"run_{runs}"
        folder.mkdir(parents=True)
        for index in range(KILLS_OF_A_RUN + 1):
            process = Process(kind, folder)
            moment = MOMENTS[(runs + index) % len(MOMENTS)]
            if index < KILLS_OF_A_RUN:
                strike(process, moment, seconds)
            status = process.end()
            if status != -signal.SIGKILL:  # it came to its end
                break
            done, moments[moment] = done + 1, moments[moment] + 1
        same = status == 0 and json.loads((folder / "result.json").read_text()) == result
        runs, wrong = runs + 1, wrong + (not same)
        if not same:
            print(f"{kind}, {folder}: status {status}, another result\n", flush=True)
            print((folder / "log.txt").read_text()[-2000:], flush=True)
        else:
            shutil.rmtree(folder)
        print(f"{runs} runs, {done} kills {moments}, {wrong} ended otherwise", flush=True)
    return wrong


def signals(arguments: argparse.Namespace, root: Path) -> int:
    """SIGTERM and SIGINT in turn; returns how many were not handled as they should."""
    wrong, slowest = 0, 0.0
    known = {kind: reference(kind, root) for kind in arguments.kinds}
    for index in range(arguments.count):
        number, code = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[index % 2]
        kind = arguments.kinds[index // 2 % len(arguments.kinds)]
        folder = root / kind / f"signal_{index}"
        folder.mkdir(parents=True)
        process = Process(kind, folder)
        process.wait(process.steps(random.randint(1, 60)))
        time.sleep(random.uniform(0, 0.2))
        os.kill(process.pid, number)
        sent = time.monotonic()
        status = process.end()
        slowest = max(slowest, took := time.monotonic() - sent)
        log = (folder / "log.txt").read_text()
        good = status == code and took < PATIENCE and "Traceback" not in log
        good = good and f"Ended by {signal.Signals(number).name}" in log
        again = Process(kind, folder)
        good = again.end() == 0 and good
        good = good and json.loads((folder / "result.json").read_text()) == known[kind][0]
        wrong += not good
        print(
            f"{index + 1} signals, {wrong} wrong, the slowest took {slowest:.2f} s"
            + ("" if good else f": {kind}, {folder}, status {status}, {took:.2f} s\n{log[-2000:]}"),
            flush=True,
        )
    return wrong


def main() -> None:
    """Ends with status 1 if anything went otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("kills", "signals"))
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--runs", type=int, default=0, help="at least so many trainings")
    parser.add_argument("--kinds", nargs="+", default=["causal", "seq2seq", "classifier"])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    root = Path(tempfile.mkdtemp(prefix="tfx-faults-"))
    print(f"folders: {root}", flush=True)
    wrong = {"kills": kills, "signals": signals}[arguments.what](arguments, root)
    if not wrong:
        shutil.rmtree(root)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
