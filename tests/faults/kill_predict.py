"""Kills `predict` at random moments, and measures it against the engine that it uses.

    python tests/faults/hostile_models.py --make FOLDER
    python tests/faults/kill_predict.py FOLDER/text_classifier
    python tests/faults/kill_predict.py FOLDER/text_classifier --rows 100000 --kills 0

A table of short rows, with cells of all kinds beside the texts, is answered once without being
disturbed. Then the command is killed (SIGKILL) and repeated, some times; what it leaves in the end
is to be the same, byte for byte, and nothing else. Of the undisturbed command its memory is said,
and how much of its processor time the same batches take without a table.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tfx_transformer import runtime

WORDS = ("the cat", "sees", "a dog", "and", "猫", "が 見る", "!", '"quoted"', "a, b", "x\ny")
BATCH = 64


def write_table(file: Path, rows: int, draw: random.Random) -> None:
    """Write a table of an id, a text and a note; one row in a hundred cannot be read."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("id", "text", "note"))
        for number in range(rows):
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))
            writer.writerow((number, "" if number % 100 == 7 else text, draw.choice(WORDS)))


def command(bundle: Path, table: Path, output: Path) -> subprocess.Popen:
    """Start `predict`."""
    arguments = ["predict", str(bundle), str(table), f"--save={output}", f"--batch-size={BATCH}"]
    program = [sys.executable, "-m", "tfx_transformer.cli", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(program, **quiet)


def undisturbed(bundle: Path, table: Path, output: Path) -> tuple[float, float, float]:
    """Run the command; return seconds, seconds of processor time, and its memory in MB."""
    begin = time.monotonic()
    process = command(bundle, table, output)
    _, status, used = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the undisturbed command failed"
    return time.monotonic() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def of_the_engine(bundle: Path, table: Path) -> float:
    """Return the seconds of processor time that the same batches take, texts in memory."""
    with table.open(encoding="utf-8", newline="") as opened:
        texts = [row[1] for row in csv.reader(opened)][1:]
    model = runtime.load(bundle)
    batches = [
        [text for text in texts[start : start + BATCH] if text]
        for start in range(0, len(texts), BATCH)
    ]
    model.classify(batches[0])
    before = resource.getrusage(resource.RUSAGE_SELF)
    for batch in batches:
        model.classify(batch)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def killed(bundle: Path, table: Path, output: Path, kills: int, draw: random.Random) -> int:
    """Kill the command when some more rows are written, and repeat it; return the kills."""
    part = output.with_name(output.name + ".part")
    for number in itertools.count():
        process = command(bundle, table, output)
        wanted = draw.uniform(number, number + 1) / (kills + 1) * table.stat().st_size
        while process.poll() is None:
            if number < kills and part.exists() and part.stat().st_size > wanted:
                time.sleep(draw.uniform(0, 1))
                process.kill()
            time.sleep(0.01)
        if process.returncode >= 0:
            assert process.returncode == 0, f"the repeated command ended with {process.returncode}"
            return number
    raise AssertionError("not reached")


def main() -> None:
    """End with status 1 if the tables differ, or anything is left behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="of a text classifier")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="tfx-predict-"))
    table, whole, output = (folder / name for name in ("in.csv", "whole.csv", "out.csv"))
    write_table(table, arguments.rows, draw)
    seconds, used, memory = undisturbed(arguments.bundle, table, whole)
    few, none = folder / "few.csv", folder / "none.csv"
    write_table(few, BATCH, draw)
    _, start, start_memory = undisturbed(arguments.bundle, few, none)
    engine = of_the_engine(arguments.bundle, table)
    print(
        f"{arguments.rows:,} rows: {seconds:.1f} s, {used - start:.1f} s of processor time without "
        f"the start; the engine alone takes {engine:.1f} s "
        f"({100 * engine / (used - start):.0f} %); {memory:.0f} MB, of {BATCH} rows "
        f"{start_memory:.0f} MB",
        flush=True,
    )
    if not arguments.kills:
        shutil.rmtree(folder)
        return
    number = killed(arguments.bundle, table, output, arguments.kills, draw)
    same = output.read_bytes() == whole.read_bytes()
    names = {"in.csv", "few.csv"} | {
        f"{name}{end}" for name in ("whole", "none", "out") for end in (".csv", ".bad_rows.csv")
    }
    left = sorted(set(os.listdir(folder)) ^ names)
    print(f"{number} kills: {'the same' if same else 'ANOTHER'} table; left behind: {left}")
    if same and not left:
        shutil.rmtree(folder)
    sys.exit(not same or bool(left))


if __name__ == "__main__":
    main()
