"""Counts of a server, in the text format of Prometheus."""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable

# Upper ends of the buckets of seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_COUNTERS = {
    "tfx_requests_total": "Requests by path and status.",
    "tfx_prompt_tokens_total": "Tokens read, by model.",
    "tfx_completion_tokens_total": "Tokens written, by model.",
    "tfx_steps_total": "Calls of the model, by model.",
    "tfx_rows_total": "Rows that these calls computed together, by model.",
    "tfx_faults_total": "Faults of the program, by model.",
}
_GAUGES = {
    "tfx_queue_length": "Pieces of work that wait or run, by model.",
}


class Metrics:
    """Counters and one histogram; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], float] = defaultdict(float)
        self._seconds: dict[str, list[int]] = {}
        self._sums: dict[str, float] = defaultdict(float)
        self._started = time.time()

    def count(self, name: str, labels: str, amount: float = 1) -> None:
        """Add to a counter; labels: such as 'model="en_ja"'."""
        with self._lock:
            self._counts[name, labels] += amount

    def observe(self, path: str, seconds: float) -> None:
        """Count a request and how long it took."""
        with self._lock:
            buckets = self._seconds.setdefault(path, [0] * (len(BUCKETS) + 1))
            buckets[bisect.bisect_left(BUCKETS, seconds)] += 1
            self._sums[path] += seconds

    def text(self, queues: Iterable[tuple[str, int]]) -> str:
        """Return all counts, in the text of `/metrics`.

        Args:
            queues: labels and length of each queue.
        """
        with self._lock:
            counts = dict(self._counts)
            seconds = {path: list(buckets) for path, buckets in self._seconds.items()}
            sums = dict(self._sums)
        lines: list[str] = []
        for name, text in _COUNTERS.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            lines += [f"{n}{{{labels}}} {v:g}" for (n, labels), v in counts.items() if n == name]
        for name, text in _GAUGES.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
            lines += [f"{name}{{{labels}}} {length}" for labels, length in queues]
        name = "tfx_request_seconds"
        lines += [f"# HELP {name} Seconds of a request, by path.", f"# TYPE {name} histogram"]
        for path, buckets in seconds.items():
            total = 0
            for end, number in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
                total += number
                lines.append(f'{name}_bucket{{path="{path}",le="{end}"}} {total}')
            lines.append(f'{name}_sum{{path="{path}"}} {sums[path]:.6f}')
            lines.append(f'{name}_count{{path="{path}"}} {total}')
        lines += _process(self._started)
        return "\n".join(lines) + "\n"


def _process(started: float) -> list[str]:
    """Return the lines about the process."""
    name = "process_start_time_seconds"
    lines = [
        f"# HELP {name} Start of the process.",
        f"# TYPE {name} gauge",
        f"{name} {started:.3f}",
    ]
    resident = resident_bytes()
    if resident:
        name = "process_resident_memory_bytes"
        lines += [f"# HELP {name} Memory in use.", f"# TYPE {name} gauge", f"{name} {resident}"]
    return lines


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not give it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
