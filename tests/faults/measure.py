"""Measures what `tests/faults/README.md` says: hostile bundles, and a CSV of a gigabyte.

python tests/faults/measure.py bundles              seconds and memory of each refusal
python tests/faults/measure.py csv                  writes 1 GB to a temporary folder, trains
python tests/faults/measure.py csv --gigabytes 0.1
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import test_bundles

import tfx_transformer as tfx
from tfx_transformer import data
from tfx_transformer.errors import InputError
from tfx_transformer.models.saving import load

SECONDS = 1.0
MEGABYTES = 500
BATCH = 64
STEPS = 30


def peak() -> int:
    """The most memory this process has held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def refused(path: Path) -> int:
    """In a process of its own, with 500 MB more than it has: its exit status, 0 if the bundle is
    refused in time."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEGABYTES * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    begin, held = time.process_time(), peak()
    try:
        load(path)
        status = 1
    except InputError as error:
        seconds = time.process_time() - begin
        status = 0 if seconds < SECONDS else 2
        first = str(error).split("\n")[0].replace(f"{path}", "…")
        print(f"{seconds:6.3f} s  {peak() - held:4} MB  {first[:90]}", flush=True)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        status = 3
    os._exit(status)


def measure_bundles() -> bool:
    """Whether every hostile bundle is refused in a second and 500 MB."""
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        small = Path(folder, "small")
        if not os.fork():  # TensorFlow's threads do not survive a fork: they start elsewhere
            test_bundles.make_bundle(small)
            os._exit(0)
        os.wait()
        for name, damage, _ in test_bundles.HOSTILE:
            copy = shutil.copytree(small, Path(folder, "copy", "small"))
            damage(copy)
            status = refused(copy)
            good += status == 0
            if status:
                print(f"{name}: status {status}")
            shutil.rmtree(copy)
    print(f"{good} of {len(test_bundles.HOSTILE)} refused in {SECONDS} s and {MEGABYTES} MB each")
    return good == len(test_bundles.HOSTILE)


def write_pairs(path: Path, size: int) -> None:
    """A CSV of different pairs of sentences, some with quotes and line ends in them."""
    pairs = data.read_pairs(tfx.resources.dataset_path("en_ja.csv"))
    draw = np.random.default_rng(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "target"])
        number = 0
        while file.tell() < size:
            for chosen in draw.integers(len(pairs), size=(1_000, 3)):
                number += 1
                source = " ".join(pairs.source[i] for i in chosen) + f" No. {number}"
                source += '\nsays "hi", then' * (number % 50 == 0)
                target = "".join(pairs.target[i] for i in chosen) + f"{number}番"
                writer.writerow([number, source, target])


class Told(keras.callbacks.Callback):
    """Prints when the first and the last step end."""

    def __init__(self, begin: float) -> None:
        super().__init__()
        self.begin = begin

    def on_train_batch_end(self, batch, logs=None):
        if batch in (0, STEPS - 1):
            tell(f"step {batch + 1}", self.begin)


def tell(what: str, begin: float) -> None:
    print(f"{time.monotonic() - begin:6.1f} s  {peak():5} MB  {what}", flush=True)


def measure_csv(gigabytes: float) -> bool:
    """Whether training on a CSV begins in 30 seconds, with less than 1 GB more memory than the
    model takes on a small file."""
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large.csv"), Path(folder, "small.csv")
        write_pairs(large, int(gigabytes * 1e9))
        write_pairs(small, 100_000)
        few = data.read_pairs(small)
        tokenizer = tfx.Tokenizer.train(few.texts(), 2_000)
        size = {"max_sequence_length": 128}
        model = tfx.Seq2SeqLM(
            tfx.TransformerConfig.of_size("tiny", tokenizer.vocabulary_size, **size)
        )
        model.compile(tfx.training.adamw(1e-3))
        fit = {"epochs": 1, "steps_per_epoch": STEPS, "verbose": 0}
        model.fit(data.pairs(few, tokenizer, batch_size=BATCH).repeat(), **fit)
        alone, begin, used = peak(), time.monotonic(), time.process_time()
        tell("the model, trained on a small file", begin)
        pairs = data.read_pairs(large)
        tell(f"{len(pairs):,} rows of {large.stat().st_size:,} bytes read and checked", begin)
        training, _ = data.split_pairs(pairs, 0.001)
        batches = data.pairs(training, tokenizer, batch_size=BATCH)
        tell("split, first batch", begin)
        first = time.process_time() - used
        model.fit(batches, callbacks=[Told(begin)], **fit)
    print(f"{first:.1f} s of computing before training; {peak() - alone} MB above the model's")
    return first < 30 and peak() - alone < 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["bundles", "csv"])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    chosen = parser.parse_args()
    good = measure_bundles() if chosen.what == "bundles" else measure_csv(chosen.gigabytes)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
