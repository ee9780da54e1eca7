"""Reading a file of token ids by several processes at once.

A file of random ids, as `tfx-transformer tokenize` writes it, in batches of 32 texts of 1,024
tokens from all places of it: a batch is a function of the file, the seed and the step. "arrays" is
the work of numpy alone; "batches" is what `fit` iterates, with the thread of tf.data. Processes are
hosts of one training: each reads its rows of every batch, and all begin when the last one is ready.
"tokens/s" is of all together, so it needs a quiet machine; "of a processor" is tokens in a second
of the processor, which other programs change less. Grain reads such blocks by
`MapDataset.shuffle.batch`, a slice of them in each process.

    python -m benchmarks read_tokens

It takes about 3 minutes on 2 cores. Expect "tokens/s" to grow with the processes up to the number
of cores, and 20 million tokens of a processor for batches, ten times as many for arrays.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import shapes
from benchmarks.tables import KERAS, Case, Settings, System

UNIT = None
# A file, the index of a host and the number of hosts -> tokens of its rows, batch by batch.
Reader = Callable[[Path, int, int], Iterator[int]]
LENGTH, ROWS, VOCABULARY = 1_024, 32, 8_000
CASES = (Case("100-million", "a file of 100 million tokens", {"tokens": 100_000_000}),)


def token_file(settings: Settings) -> Path:
    """The file of the case, which is made once."""
    tokens = settings["tokens"] // (100 if settings["quick"] else 1)
    file = shapes.work_file(settings, f"tokens-{tokens}.bin")
    if not file.exists():
        unfinished = file.with_suffix(f".{os.getpid()}")
        with unfinished.open("wb") as written:
            for start in range(0, tokens, 1_000_000):
                count = min(1_000_000, tokens - start)
                ids = np.random.default_rng(start).integers(VOCABULARY, size=count, dtype="uint16")
                written.write(ids.tobytes())
        os.replace(unfinished, file)
    return file


def our_batches(file: Path) -> Any:
    """Our batches of the whole file, and what a run makes them of."""
    from tfx_transformer.data import corpus

    tokens = file.stat().st_size // 2
    read = corpus.TokenFile(file, "uint16", tokens, tokens, 1, (str(file),))
    return corpus.blocks(read, length=LENGTH, batch_size=ROWS, seed=1)


def arrays(file: Path, host: int, hosts: int) -> Iterator[int]:
    """Make the batches of an epoch by numpy; yields the tokens of each, with those that fill up the
    last one."""
    made = our_batches(file)
    for starts in made.plan.order(0):
        _, labels, _ = made.batch(starts, host, hosts)
        yield labels.size


def batches(file: Path, host: int, hosts: int) -> Iterator[int]:
    """Iterate the batches of an epoch as `fit` does."""
    made = our_batches(file)
    for _, _, weights in itertools.islice(made.from_step(0, host, hosts), len(made)):
        yield weights.shape[0] * weights.shape[1]


def grain_batches(file: Path, host: int, hosts: int) -> Iterator[int]:
    """Iterate the batches of an epoch of Grain."""
    import grain  # pyright: ignore[reportMissingImports]

    ids = np.memmap(file, "uint16", "r")

    class Blocks:
        def __len__(self) -> int:
            return len(ids) // LENGTH - 1

        def __getitem__(self, index: int) -> np.ndarray:
            return ids[index * LENGTH : index * LENGTH + LENGTH + 1].astype("int32")

    shuffled = grain.MapDataset.source(Blocks()).shuffle(seed=1)
    for batch in shuffled[host::hosts].batch(ROWS // hosts):
        yield len(batch) * LENGTH


def epoch(read: Reader, file: Path, host: int, hosts: int) -> dict[str, Any]:
    """Read an epoch, and return its tokens, when it began and ended, and the seconds of the
    processor."""
    began, used = time.time(), time.process_time()
    tokens = sum(read(file, host, hosts))
    used = time.process_time() - used
    return {"tokens": tokens, "began": began, "ended": time.time(), "used": used}


# All processes of `together` wait here for each other.
_ready: Any = None


def _start(ready: Any) -> None:
    global _ready
    _ready = ready


def _epoch(read: Reader, file: Path, hosts: int, host: int) -> dict[str, Any]:
    next(read(file, host, hosts))  # imports, and reads the first blocks
    _ready.wait(300)
    return epoch(read, file, host, hosts)


def together(read: Reader, file: Path, processes: int) -> list[dict[str, Any]]:
    """The epochs of processes that begin at the same time."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes)
    pool = concurrent.futures.ProcessPoolExecutor(processes, context, _start, (ready,))
    with pool:
        return list(pool.map(functools.partial(_epoch, read, file, processes), range(processes)))


def scores(read: Reader, processes: int, settings: Settings) -> dict[str, Any]:
    epochs = together(read, token_file(settings), processes)
    tokens = sum(one["tokens"] for one in epochs)
    took = max(one["ended"] for one in epochs) - min(one["began"] for one in epochs)
    return {
        "tokens/s": round(tokens / took),
        "of a processor": round(tokens / sum(one["used"] for one in epochs)),
    }


SYSTEMS = tuple(
    System(
        f"{name}-{processes}",
        f"{title}, {processes} process{'es' * (processes > 1)}",
        functools.partial(scores, read, processes),
        packages,
        KERAS,
    )
    for name, title, read, packages in (
        ("tfx-arrays", "**ours**, arrays", arrays, ("tensorflow",)),
        ("tfx", "**ours**, batches", batches, ("tensorflow",)),
        ("grain", "Grain", grain_batches, ("grain",)),
    )
    for processes in (1, 2, 4)
)
