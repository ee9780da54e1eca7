"""Measure tables: a process for each system, timed in turn, every timing kept at once.

All systems of a case are loaded first. A round then times each of them once, A B C A B C, with the
limits of the machine (`limits`) among them, so that a change of its speed meets all alike. Each
timing is a line of the results file; what is there is not measured again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks import limits, machine
from benchmarks.tables import Case, System, Table

ROOT = Path(__file__).resolve().parent.parent
# The same for all systems; what one of them sets itself comes on top.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "true",
}
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """The rules of a measurement.

    Args:
        results: the file of results; folders for work and logs are made beside it.
        rounds: timings of each system in a case.
        seconds: shortest time of a timing.
        quick: short rounds; kept apart from others.
        data: folder with data that are not part of this repository, or None.
        only: parts of the names of systems to measure; empty: all.
        cases: parts of the names of cases to measure; empty: all.
        python: interpreter by part of a system's name, for packages of another environment.
        threads: of each system.
    """

    results: Path
    rounds: int = 5
    seconds: float = 1.0
    quick: bool = False
    data: Path | None = None
    only: Sequence[str] = ()
    cases: Sequence[str] = ()
    python: Mapping[str, str] = dataclasses.field(default_factory=dict)
    threads: int = os.cpu_count() or 1

    @property
    def work(self) -> Path:
        return self.results.parent / ("work-quick" if self.quick else "work")

    def wants(self, system: System) -> bool:
        return not self.only or any(part in system.name for part in self.only)

    def wants_case(self, case: Case) -> bool:
        return not self.cases or any(part in case.name for part in self.cases)

    def settings(self, case: Case) -> dict[str, Any]:
        """The settings that the systems of a case get."""
        return {
            **case.settings,
            "work": str(self.work.resolve()),
            "data": str(self.data.resolve()) if self.data else None,
            "threads": self.threads,
            "quick": self.quick,
        }


class Results:
    """A file of JSON lines: `machine` lines, one for each run, and a line for each measurement.

    A line that an interruption cut short is removed.

    Raises:
        ValueError: another line is not a result, or a run was on another machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        self.run = 0
        if path.exists():
            self._read()

    def _read(self) -> None:
        text = self.path.read_bytes()
        whole, end, rest = text.rpartition(b"\n")
        if rest:
            self.path.write_bytes(whole + end)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                found = json.loads(line)
                self.run = max(self.run, found["run"])
            except (ValueError, TypeError, KeyError):
                raise ValueError(
                    f"{self.path}, line {number} is not a result.\n"
                    "  Remove the line, or begin another file with --results."
                ) from None
            self.lines.append(found)

    def begin(self) -> None:
        """Begin a run on this machine."""
        here = machine.describe()
        for found in self.machines():
            if machine.hardware(found) != machine.hardware(here):
                raise ValueError(
                    f"{self.path} was measured on another machine: {found['processor']}.\n"
                    "  Begin another file with --results."
                )
        self.run += 1
        self.add(machine=here)

    def machines(self) -> list[dict[str, Any]]:
        return [line["machine"] for line in self.lines if "machine" in line]

    def add(self, **values: Any) -> None:
        line = {"run": self.run, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.lines.append(line)

    def of(self, table: str, case: str, system: str, quick: bool) -> list[dict[str, Any]]:
        """The lines of a row; of quick runs or of the others."""
        key = {"table": table, "case": case, "system": system, "quick": quick}
        return [line for line in self.lines if key.items() <= line.items()]


class Worker:
    """The process of a system, ready to be timed unless `answer` says why not."""

    def __init__(self, module: str, system: System, settings: dict, options: Options, log: IO):
        self.system = system
        threads = {name: str(options.threads) for name in THREADS}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        python = next((p for part, p in options.python.items() if part in system.name), None)
        log.write(f"\n{module} {system.name} {json.dumps(settings)}\n")
        log.flush()
        self.process = subprocess.Popen(
            [python or sys.executable, "-m", "benchmarks.worker"]
            + [module, system.name, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            env={
                **os.environ,
                **ENVIRONMENT,
                **threads,
                **system.environment,
                "PYTHONPATH": os.pathsep.join(paths),
            },
        )
        self.answer = self._read()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"ended with {self.process.wait()}"}

    def time(self, seconds: float) -> dict[str, Any]:
        """One timing: {"value": units a second} or {"error": the reason}."""
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def measure(
    table: Table, options: Options, results: Results, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Measure what the results lack of a table; `tell` gets a line about each step."""
    options.work.mkdir(parents=True, exist_ok=True)
    with options.results.with_suffix(".log").open("a", encoding="utf-8") as log:
        for case in filter(options.wants_case, table.cases):
            if why_skipped(case, options):
                continue
            wanted = filter(options.wants, table.systems)
            todo = [system for system in wanted if lacks(table, case, system, options, results)]
            if todo:
                _Case(table, case, options, results, log, tell).measure(todo)


def why_skipped(case: Case, options: Options) -> str | None:
    """The reason why a case cannot be measured, or None."""
    if not case.data:
        return None
    if options.data is None:
        return "skipped: give the folder of its data with `--data FOLDER`"
    absent = [name for name in case.data if not (options.data / name).exists()]
    return f"skipped: the folder of `--data` has no {', '.join(absent)}" if absent else None


def lacks(table: Table, case: Case, system: System, options: Options, results: Results) -> int:
    """Measurements that are still to be made of a row."""
    lines = results.of(table.name, case.name, system.name, options.quick)
    if table.unit is None:
        return int(not any("scores" in line for line in lines))
    return max(0, options.rounds - sum("value" in line for line in lines))


class _Case:
    """The measurement of one case."""

    def __init__(self, table, case, options, results, log, tell) -> None:
        self.table, self.case, self.options, self.results = table, case, options, results
        self.log, self.tell = log, tell
        self.settings = options.settings(case)

    def measure(self, systems: Iterable[System]) -> None:
        workers: list[Worker] = []
        try:
            for system in systems:
                workers += self._start(self.table.module, system)
            if workers:
                left = {worker: self._left(worker) for worker in workers}
                for system in limits.SYSTEMS:
                    workers += self._start(limits.__name__, system)
                self._rounds(workers, left)
        finally:
            for worker in workers:
                worker.close()

    def _left(self, worker: Worker) -> int:
        return lacks(self.table, self.case, worker.system, self.options, self.results)

    def _start(self, module: str, system: System) -> list[Worker]:
        """The worker, if it is ready to be timed; else its answer is kept, and it ends."""
        self.tell(f"{self.table.name} {self.case.name}: {system.title}")
        worker = Worker(module, system, self.settings, self.options, self.log)
        if "ready" in worker.answer:
            return [worker]
        self._add(system, worker.answer)
        worker.close()
        return []

    def _rounds(self, workers: list[Worker], left: dict[Worker, int]) -> None:
        """Time the workers in turn; the limits, which are not in `left`, in every round."""
        failed = set()
        for turn in range(max(left.values())):
            self.tell(f"{self.table.name} {self.case.name}: round {turn + 1}")
            for worker in workers:
                if worker in failed or turn >= left.get(worker, turn + 1):
                    continue
                answer = worker.time(self.options.seconds)
                self._add(worker.system, {"round": turn, **answer})
                if "error" in answer:
                    failed.add(worker)

    def _add(self, system: System, values: dict[str, Any]) -> None:
        self.results.add(
            table=self.table.name,
            case=self.case.name,
            system=system.name,
            quick=self.options.quick,
            **values,
        )
