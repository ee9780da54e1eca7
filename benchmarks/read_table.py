"""Reading a large table.

A CSV of pairs, about 120 bytes a row, some of them Japanese. Ours checks every row, detects the
encoding and the separator, and holds at most 64 MiB of cells; larger files are read again row by
row. The others hold all cells, and check nothing. Seconds are of the processor, without imports.

    python -m benchmarks read_table

It takes about 3 minutes on 2 cores. Expect ours to take a third of the memory of pandas or less,
and two to three times its time.
"""

from __future__ import annotations

import csv
import functools
import os
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
WORDS = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "was", "on", "are", "as")
LETTERS = "あいうえおかきくけこさしすせそ日本語学校先生今日明日天気東京電車時間"

CASES = (
    Case("100-MB", "100 MB", {"bytes": 100_000_000}),
    Case("1-GB", "1 GB", {"bytes": 1_000_000_000}),
)


def table(settings: Settings) -> Path:
    """The table of a case, which is made once."""
    file = shapes.work_file(settings, f"pairs-{settings['bytes']}.csv")
    if not file.exists():
        drawn, size = random.Random(0), 0
        unfinished = file.with_suffix(".part")
        with unfinished.open("w", encoding="utf-8", newline="") as written:
            writer = csv.writer(written)
            writer.writerow(["source", "target"])
            while size < settings["bytes"] // (100 if settings["quick"] else 1):
                source = " ".join(drawn.choices(WORDS, k=12)) + f" {drawn.randrange(10**9)}"
                target = "".join(drawn.choices(LETTERS, k=20))
                writer.writerow([source, target])
                size += len(source) + len(target.encode()) + 3
        os.replace(unfinished, file)
    return file


def ours(file: Path) -> int:
    import tfx_transformer as tfx

    return len(tfx.data.read_pairs(file))


def ours_to_batch(file: Path) -> int:
    """Read the table, and make the first batch of it: 64 rows in an order drawn from all."""
    import tfx_transformer as tfx

    read = tfx.data.read_pairs(file)
    few = [text for _, text in zip(range(2000), read.texts(), strict=False)]
    tokenizer = tfx.Tokenizer.train(few, 2000)
    next(iter(tfx.data.pairs(read, tokenizer, batch_size=64, seed=1)))
    return len(read)


def with_pandas(file: Path) -> int:
    import pandas

    return len(pandas.read_csv(file, dtype=str, keep_default_na=False))


def with_csv(file: Path) -> int:
    with file.open(encoding="utf-8", newline="") as opened:
        return len(list(csv.reader(opened))) - 1


def scores(read: Callable[[Path], int], imports: tuple[str, ...], settings: Settings) -> dict:
    file = table(settings)
    for name in imports:
        __import__(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    rows = read(file)
    seconds = time.process_time() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": rows,
        "seconds": round(seconds, 2),
        "MB/s": round(file.stat().st_size / 1e6 / seconds, 1),
        "memory, MB": round((after - before) / 1e3),
    }


SYSTEMS = tuple(
    System(name, title, functools.partial(scores, read, imports), packages, KERAS)
    for name, title, read, imports, packages in (
        ("tfx", "**ours**, `read_pairs`", ours, ("tfx_transformer.data",), ()),
        ("tfx-batch", "**ours**, to the first batch", ours_to_batch, ("keras",), OURS),
        ("pandas", "pandas, `read_csv`", with_pandas, ("pandas",), ("pandas",)),
        ("csv", "Python's csv, a list", with_csv, (), ()),
    )
)
