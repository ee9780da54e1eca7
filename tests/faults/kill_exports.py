"""Kills at random moments of the end of a training: its bundle is saved, exported and verified.

    python tests/faults/kill_exports.py --count 40

A recipe runs in a process of its own, forked from this one after it has imported TensorFlow, and is
killed at most five times; then it runs to its end. What it leaves is to be what an undisturbed run
leaves: the same weights and exports, byte for byte (of a SavedModel its variables), and nothing
else, neither beside the bundle nor among temporary files.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from tfx_transformer import cli, flags  # noqa: E402

flags.hush()

import tfx_transformer as tfx  # noqa: E402
from tfx_transformer import bundle  # noqa: E402

KILLS_OF_A_RUN = 5
COMMON = {"name": "made", "size": "nano"}
RECIPES = {
    "translation": {"vocabulary_size": 300, "max_length": 24, "epochs": 1, "share": 0.2},
    "pretraining": {"vocabulary_size": 300, "context": 32, "steps": 4, "validate_every": 2},
    "text_classification": {"vocabulary_size": 300, "max_length": 24, "epochs": 1},
}


def start(recipe: str, folder: Path) -> int:
    """Run a recipe in a process of its own, which logs to `log.txt`; return its number."""
    pid = os.fork()
    if pid:
        return pid
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    sys.stderr = sys.stdout
    chosen = argparse.Namespace(json=False, debug=False)
    main = cli.recipe_main(recipe)
    flags.run_action(lambda: main(**COMMON, **RECIPES[recipe], **data(recipe)), chosen)


def data(recipe: str) -> dict[str, str]:
    """The flag of the few rows that `prepare` wrote."""
    return {"text": "data.txt"} if recipe == "pretraining" else {"csv": "data.csv"}


def prepare(recipe: str, folder: Path) -> None:
    """Write a hundred rows, or so much text, into a new folder."""
    (folder / "temporary").mkdir(parents=True)
    names = {
        "translation": "en_ja.csv",
        "pretraining": "pretraining.txt",
        "text_classification": "labelled_text.csv",
    }
    source = tfx.resources.dataset_path(names[recipe])
    lines = source.read_text("utf-8").splitlines(keepends=True)
    few = [lines[0], *lines[1 :: max(len(lines) // 100, 1)]]
    (folder / f"data{source.suffix}").write_text("".join(few), "utf-8")


def left(folder: Path) -> dict[str, str]:
    """Digests of what a run left, with names of what should not be there."""
    found = {}
    made = folder / "saved_models" / "made"
    for file in sorted(made.rglob("*")):
        name = file.relative_to(made).as_posix()
        if file.is_file() and name not in ("config.json", "README.md", bundle.SUMS):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    for name in list(found):
        if name.startswith("saved_model/") and "variables.data" not in name:
            found[name] = "there"  # the order of its graph differs
    config = bundle.read_config(made)
    found["scores"] = str(config["scores"])
    found["verified"] = str(sorted(config["verified"]))
    bundle.verify(made)
    for place in ("saved_models", "temporary", "runs"):
        for file in (folder / place).iterdir():
            if file.name != "made":
                found[f"left behind: {place}/{file.name}"] = ""
    for file in (folder / "runs" / "made").iterdir():
        if file.name.startswith(".") or file.name in ("checkpoints", "lock"):
            found[f"left behind: runs/made/{file.name}"] = ""
    return found


def run(recipe: str, folder: Path, seconds: float, kills: int) -> int:
    """Run a recipe to its end after some kills in its last part; return how many there were."""
    made = folder / "saved_models" / "made"
    for number in range(kills + 1):
        pid = start(recipe, folder)
        begin, wait = None, random.uniform(0, seconds)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if begin is None and made.exists():
                begin = time.monotonic()
            if number < kills and begin is not None and time.monotonic() - begin > wait:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                break
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            finished = "exists already" in (folder / "log.txt").read_text("utf-8")
            if code and not (code == 2 and finished):  # killed when all was done
                raise RuntimeError(f"status {code}\n" + (folder / "log.txt").read_text()[-3000:])
            return number
    raise AssertionError("not reached")


def main() -> None:
    """End with status 1 if anything is otherwise than it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    root = Path(tempfile.mkdtemp(prefix="tfx-exports-"))
    print(f"folders: {root}", flush=True)
    known = {}
    for recipe in arguments.recipes:
        folder = root / recipe / "undisturbed"
        prepare(recipe, folder)
        begin = time.monotonic()
        run(recipe, folder, 0, 0)
        known[recipe] = left(folder), time.monotonic() - begin
    done = runs = wrong = 0
    while done < arguments.count:
        recipe = arguments.recipes[runs % len(arguments.recipes)]
        expected, seconds = known[recipe]
        folder = root / recipe / f"run_{runs}"
        prepare(recipe, folder)
        try:
            done += run(recipe, folder, seconds * 0.7, KILLS_OF_A_RUN)
            found = left(folder)
        except Exception as error:
            found = {"error": str(error)}
        same = found == expected
        runs, wrong = runs + 1, wrong + (not same)
        if same:
            shutil.rmtree(folder)
        else:
            names = sorted(found.keys() | expected.keys())
            others = [name for name in names if found.get(name) != expected.get(name)]
            print(f"{recipe}, {folder}: {others} {found.get('error', '')}", flush=True)
        print(f"{runs} runs, {done} kills, {wrong} ended otherwise", flush=True)
    if not wrong:
        shutil.rmtree(root)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
