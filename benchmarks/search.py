"""Search in an index on disk.

The index compares a question with every stored vector, or finds the nearest by a graph of
`usearch`, whose 256 candidates are compared exactly. The vectors are drawn: 256 numbers along 32
directions, with noise. Recall is the share of the 10 nearest (float32, all compared) that is found,
over 200 questions; milliseconds are the median of a question by itself, without its embedding.

    python -m benchmarks search

It takes about 10 minutes on 2 cores, nearly all of it for the graphs. Expect a recall above 99 % by
the graph with 50,000 rows.
"""

from __future__ import annotations

import functools
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.tables import Case, Settings, System

UNIT = None
WIDTH, DIRECTIONS, NOISE = 256, 32, 0.1
COUNT, QUESTIONS = 10, 200

CASES = tuple(
    Case(f"{rows // 1000}k", f"{rows:,} rows", {"rows": rows})
    for rows in (10_000, 50_000, 100_000, 300_000)
)


def drawn(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The vectors, float32 (rows, 256), and the questions, float32 (200, 256)."""
    random = np.random.default_rng(1)
    rows = settings["rows"] if not settings["quick"] else 2_000
    directions = random.normal(size=(DIRECTIONS, WIDTH)).astype("float32")

    def draw(count: int) -> np.ndarray:
        inside = random.standard_normal((count, DIRECTIONS), "float32") @ directions
        spread = NOISE * np.sqrt(DIRECTIONS, dtype="float32")
        return inside + spread * random.standard_normal((count, WIDTH), "float32")

    return draw(rows), draw(QUESTIONS)


def searched(settings: Settings, dtype: str, graph: bool) -> dict[str, float]:
    """Recall and time of one way."""
    from tfx_transformer.search import nearest

    vectors, questions = drawn(settings)
    packed = nearest.pack(vectors, dtype)
    expected, _ = nearest.exact(questions, nearest.pack(vectors, "float32"), COUNT)
    scores: dict[str, float] = {}
    search = functools.partial(nearest.exact, packed=packed)
    if graph:
        file = Path(settings["work"], f"{len(vectors)}.usearch")
        file.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        digest = nearest.write_graph(file, packed)
        scores["seconds to build"] = time.perf_counter() - began
        scores["MB of the graph"] = file.stat().st_size / 1e6
        search = nearest.Graph(file, packed, digest).nearest
    times, found = [], []
    for question in questions:
        began = time.perf_counter()
        numbers, _ = search(question[None], count=COUNT)
        times.append(1000 * (time.perf_counter() - began))
        found.append(numbers[0])
    same = [
        len({*a} & {*b}) for a, b in zip(np.array(found).tolist(), expected.tolist(), strict=True)
    ]
    return scores | {
        "MB of the vectors": packed.nbytes / 1e6,
        "ms a question": statistics.median(times),
        "recall, %": 100 * float(np.mean(same)) / COUNT,
    }


SYSTEMS = (
    *(
        System(
            f"exact-{dtype}",
            f"all compared, {dtype}",
            functools.partial(searched, dtype=dtype, graph=False),
        )
        for dtype in ("float32", "float16", "int8")
    ),
    System(
        "graph",
        "graph of usearch, float16 vectors",
        functools.partial(searched, dtype="float16", graph=True),
        ("usearch",),
    ),
)
