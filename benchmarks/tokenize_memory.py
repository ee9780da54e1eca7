"""The memory of tokenizing 10 GB of text, killed once.

Generated JSON Lines, documents of about 5 kB, become token ids by `tfx-transformer tokenize` with 2
processes that encode. At three tenths of the text the process that reads is killed (SIGKILL), and
the command is repeated. "own" is its memory that belongs to no file (RssAnon of Linux), the mean
over each tenth of the text; "at most" is the largest resident memory of a process. At the end the
counts must be those of the text, and the ids of some 400 documents, half of them around the kill,
those that the tokenizer gives.

    python -m benchmarks tokenize_memory

It takes 17 GB of disk, and about 15 minutes of the processor. Expect "own" to be about 50 MB, and
not to rise after the first GB of text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import random
import resource
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import Case, Settings, System

UNIT = None
CASES = (Case("10-gb", "10 GB of text", {"bytes": 10_000_000_000}),)
VOCABULARY, LEARNED = 8_000, 300  # tokens, and the documents that they are learned from
PROCESSES = 2
KILLED = 0.3  # share of the text


@functools.cache
def sentences() -> list[str]:
    """20,000 sentences of 12 words, of 5,000 words."""
    draw = random.Random(7)
    letters = string.ascii_lowercase
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(5_000)]
    return [" ".join(draw.choices(words, k=12)) + "." for _ in range(20_000)]


def document(number: int) -> str:
    """The document of a number; no two are equal."""
    draw = random.Random(number)
    return f"Document {number}. " + " ".join(draw.choices(sentences(), k=draw.randint(45, 75)))


def write(file: Path, size: int) -> tuple[int, int]:
    """Write documents until their text has `size` bytes, and return their number and bytes."""
    number = written = 0
    with file.open("w", encoding="utf-8") as lines:
        while written < size:
            text = document(number)
            lines.write(json.dumps({"text": text}) + "\n")
            number, written = number + 1, written + len(text)
    return number, written


@dataclasses.dataclass
class Memory:
    """The memory of the processes of a command, in bytes.

    Attributes:
        own: bytes of text that were done, and what the process that reads held then.
        reader, encoder: largest resident memory of that process, and of one that encodes.
    """

    own: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    reader: int = 0
    encoder: int = 0

    def note(self, process: int, done: int) -> None:
        """Note what the process that reads, and those that it started, hold now."""
        found = _sizes(process)
        if "RssAnon" not in found:
            return  # it has ended
        self.own.append((done, found["RssAnon"]))
        self.reader = max(self.reader, found["VmHWM"])
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            for child in children.read_text("utf-8").split():
                self.encoder = max(self.encoder, _sizes(int(child)).get("VmHWM", 0))


def _sizes(process: int) -> dict[str, int]:
    """The sizes that Linux knows of a process, in bytes; none of one that has ended."""
    lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): 1024 * int(size) for name, size, _ in sizes}


def tenths(own: Iterable[tuple[int, int]], size: int) -> list[float]:
    """The means over each tenth of the text, those without a value left out; see `Memory.own`."""
    parts: dict[int, list[int]] = {}
    for done, held in own:
        parts.setdefault(min(10 * done // size, 9), []).append(held)
    return [sum(parts[tenth]) / len(parts[tenth]) for tenth in sorted(parts)]


def tokenize(command: Sequence[str], folder: Path, until: float, memory: Memory) -> int:
    """Run a command that writes a folder of tokens, note the memory of its processes every second,
    and kill it once so many bytes of text are recorded as done; return its exit status."""
    process, done, said = subprocess.Popen(command), 0, -1
    while process.poll() is None:
        time.sleep(1)
        done = max(done, recorded(folder)["bytes"])  # the record is removed at the end
        with contextlib.suppress(OSError):  # a process has just ended
            memory.note(process.pid, done)
        if done != said and memory.own:
            print(f"{done / 1e9:.2f} GB, {memory.own[-1][1] / 1e6:.1f} MB", flush=True)
            said = done
        if done >= until:
            process.kill()
    return process.wait()


def recorded(folder: Path) -> dict[str, int]:
    """The counts of an unfinished folder of tokens."""
    file = folder / ".progress.json"
    try:
        return json.loads(file.read_text("utf-8"))["counts"]
    except FileNotFoundError:
        return {"bytes": 0, "documents": 0}


def compare(folder: Path, tokenizer: Any, numbers: Iterable[int]) -> int:
    """Return how many documents a folder of tokens has.

    Raises:
        AssertionError: the ids of one of these documents are not those of the tokenizer.
    """
    ids, step = np.memmap(folder / "training.bin", "uint16", "r"), 1 << 26
    ends = [
        start + np.flatnonzero(ids[start : start + step] == tokenizer.end_id)
        for start in range(0, len(ids), step)
    ]
    begins = np.concatenate([[0], *(part + 1 for part in ends)])
    for number in numbers:
        found = ids[begins[number] : begins[number + 1] - 1].tolist()
        assert found == tokenizer.encode(document(number)), f"document {number} differs"
    return len(begins) - 1


def scores(settings: Settings) -> dict[str, Any]:
    """Write the text, tokenize it, and measure; the files are removed at the end."""
    from tfx_transformer import Tokenizer

    work = Path(settings["work"], "tokenize_memory")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        tokenizer = Tokenizer.train(map(document, range(LEARNED)), VOCABULARY)
        tokenizer.save(work / "tokenizer.json")
        text, folder, memory = work / "text.jsonl", work / "tokens", Memory()
        documents, size = write(text, settings["bytes"] // (20 if settings["quick"] else 1))
        command = [sys.executable, "-m", "tfx_transformer.cli", "tokenize", str(text)]
        command += ["--column", "text", "--tokenizer", str(work / "tokenizer.json")]
        command += ["--processes", str(PROCESSES), "--out", str(folder)]
        killed = tokenize(command, folder, KILLED * size, memory)
        assert killed == -9, f"the command ended with {killed} before it was killed"
        place = recorded(folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        again = tokenize(command, folder, np.inf, memory)
        assert again == 0, f"the repeated command ended with {again}"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        counts = json.loads((folder / "tokens.json").read_text("utf-8"))["training"]
        assert (counts["documents"], counts["bytes"]) == (documents, size), counts
        around = range(place["documents"] - 100, place["documents"] + 100)
        compared = sorted({*around, *range(0, documents, documents // 200)})
        assert compare(folder, tokenizer, compared) == documents
    finally:
        shutil.rmtree(work)
    return {
        "documents": documents,
        "tokens": counts["tokens"],
        "killed at, GB": round(place["bytes"] / 1e9, 2),
        "compared": len(compared),
        "own, MB": ", ".join(f"{mean / 1e6:.1f}" for mean in tenths(memory.own, size)),
        "the reader at most, MB": round(memory.reader / 1e6),
        "an encoder at most, MB": round(memory.encoder / 1e6),
        "processor after the kill, s": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        ),
    }


SYSTEMS = (System("tfx", "**ours**, 2 processes that encode", scores, ("tiktoken",)),)
