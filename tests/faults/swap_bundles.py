"""Readings of a bundle that is replaced all the time; each is to see one bundle, whole.

    python tests/faults/swap_bundles.py --count 1000

One process replaces a bundle by another one and back as fast as it can; this one reads: sums,
configuration, tokenizer and weights, by turns in a reading of their own and by `load`, which builds
the model. All that is read tells which of the two bundles it is of.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from tfx_transformer import flags  # noqa: E402

flags.hush()

import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402

import tfx_transformer as tfx  # noqa: E402
from tfx_transformer import bundle, files  # noqa: E402

# Of the tokenizer, the weights and the configuration of the two bundles.
SIZES = (262, 270)


def make(path: Path, mark: int) -> None:
    """Write bundle 0 or 1: all of it depends on the mark."""
    tokenizer = tfx.Tokenizer.train(["the cat sat on the mat"] * (mark + 1), SIZES[mark])
    config = tfx.TransformerConfig.of_size(
        "nano", tokenizer.vocabulary_size, "llama", num_layers=1, max_sequence_length=11
    )
    model = tfx.CausalLM(config)
    for weight in model.trainable_weights:
        weight.assign(np.full(weight.shape, mark))
    tfx.save(path, model, tokenizer, scores={"mark": mark})


def swap(path: Path, sources: list[Path], without_exchange: bool) -> None:
    """Replace the bundle for ever."""
    if without_exchange:  # as on other systems than Linux
        files.exchange = lambda *_: False
    while True:
        for source in sources:
            with bundle.writing(path, overwrite=True) as folder:
                for name in ("model.safetensors", "tokenizer.json", "config.json", "README.md"):
                    shutil.copyfile(source / name, folder / name)


@bundle.consistent_read
def read(path: Path) -> set[int]:
    """Return the marks of all files of a bundle."""
    bundle.verify(path)
    config = bundle.read_config(path)
    weights = safetensors.numpy.load_file(path / bundle.WEIGHTS)
    tokenizer = bundle.read_tokenizer(path)
    marks = {config["scores"]["mark"], SIZES.index(config["architecture"]["vocabulary_size"])}
    marks |= {int(value) for array in weights.values() for value in np.unique(array)}
    return marks | {SIZES.index(tokenizer.vocabulary_size)}


def load(path: Path) -> set[int]:
    """Return the marks of a model that is loaded, and of its tokenizer."""
    model, tokenizer = tfx.load(path)
    marks = {int(value) for w in model.trainable_weights for value in np.unique(w)}
    return marks | {SIZES.index(tokenizer.vocabulary_size)}


def readings(folder: Path, count: int, without_exchange: bool = False) -> dict[str, int]:
    """Read a bundle that is replaced; return how many readings saw the first, the second, more
    than one, and how often another error came."""
    sources = [folder / "first", folder / "second"]
    for mark, source in enumerate(sources):
        make(source, mark)
    path = folder / "bundle"
    make(path, 0)
    writer = os.fork()
    if writer == 0:
        try:
            swap(path, sources, without_exchange)
        finally:
            os._exit(1)
    found = {"first": 0, "second": 0, "mixed": 0, "errors": 0}
    try:
        for number in range(count):
            try:
                marks = (load if number % 10 == 0 else read)(path)
            except Exception as error:
                found["errors"] += 1
                print(f"{type(error).__name__}: {error}", flush=True)
                continue
            found["mixed" if len(marks) > 1 else ("first", "second")[marks.pop()]] += 1
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    with bundle.writing(path, overwrite=True) as unfinished:
        shutil.copytree(sources[0], unfinished, dirs_exist_ok=True)
    found["left behind"] = len(os.listdir(folder)) - 3
    return found


def main() -> None:
    """End with status 1 if a reading saw anything but one whole bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    wrong = False
    for without_exchange in (False, True):
        folder = Path(tempfile.mkdtemp(prefix="tfx-swaps-"))
        begin = time.monotonic()
        found = readings(folder, arguments.count // 2, without_exchange)
        way = "two renames" if without_exchange else "one exchange"
        print(f"{way}: {found}, {time.monotonic() - begin:.1f} s", flush=True)
        wrong |= bool(found["mixed"] or found["errors"] or found["left behind"])
        wrong |= not (found["first"] and found["second"])
        shutil.rmtree(folder)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
