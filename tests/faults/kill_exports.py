"""Kills at random moments of the end of a training: its bundle is saved, exported and verified.

    python tests/faults/kill_exports.py --count 40

A recipe runs in a process of its own, forked from this one after it has imported TensorFlow, and is
killed at most eight times after its last epoch; then it runs to its end. What it leaves is to be
what an undisturbed run leaves: the same files byte for byte, of a SavedModel the same signatures,
variables and answers (TensorFlow orders its file otherwise each time), and nothing else, neither
beside the bundle nor in the run's folder nor among temporary files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from tfx_transformer import cli, flags  # noqa: E402

flags.hush()

import tfx_transformer as tfx  # noqa: E402
from tfx_transformer import bundle  # noqa: E402

KILLS_OF_A_RUN = 8
COMMON = {"name": "made", "size": "nano"}
TEXTS = {"vocabulary_size": 280, "max_length": 12}
SMALL = {"layers": 1, "width": 16}
RECIPES = {
    "text_classification": {**TEXTS, **SMALL, "ngram_buckets": 0, "epochs": 1},
    "pretraining": {
        **SMALL, "vocabulary_size": 280, "context": 16, "steps": 2, "validate_every": 2,
    },
    "translation": {**TEXTS, "epochs": 1, "share": 0.2},
}  # fmt: skip
# A time and a number of its own, which LiteRT-LM's builder gives each file.
_OF_THE_BUILDER = re.compile(
    rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
# What a recipe prints when the weights are known: a new one and one that goes on.
TRAINED = ("the best was epoch", "Goes on from")


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
    sys.stdout.reconfigure(line_buffering=True)
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
    """Return digests of what a run left, and names of what should not be there."""
    made = folder / "saved_models" / "made"
    bundle.verify(made)
    found = {}
    for file in sorted(made.rglob("*")):
        name = file.relative_to(made).as_posix()
        if file.is_file() and not name.startswith("saved_model/") and name != bundle.SUMS:
            found[name] = _digest(_OF_THE_BUILDER.sub(b"", file.read_bytes()))
        elif file.is_file():
            found[name] = "there"
    config = bundle.read_config(made)
    seconds = str(config["training"].pop("seconds"))
    config.pop("costs", None)  # the milliseconds that were measured, which the card has too
    found[bundle.CONFIG] = json.dumps(config)
    card = (made / "README.md").read_text("utf-8").replace(seconds, "")
    found["README.md"] = re.sub(r"[\d.]+ \|$", "|", card, flags=re.MULTILINE)
    found |= in_process(lambda: answers(made / bundle.SAVED_MODEL))
    for place in ("saved_models", "temporary", "runs"):
        for file in (folder / place).iterdir():
            if file.name != "made":
                found[f"left behind: {place}/{file.name}"] = ""
    for file in (folder / "runs" / "made").iterdir():
        if file.name.startswith(".") or file.name in ("checkpoints", "lock"):
            found[f"left behind: runs/made/{file.name}"] = ""
    return found


def answers(saved_model: Path) -> dict[str, str]:
    """Return digests of the variables of a SavedModel, and what its signatures answer to a text."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(saved_model))
    # Keys in the file, `_all_variables/3`, are numbered otherwise each time; names are the model's.
    found = {
        f"variable {variable.name}": f"{variable.shape} {_digest(variable.numpy().tobytes())}"
        for variable in loaded._all_variables
    }
    for name, function in sorted(loaded.signatures.items()):
        inputs = function.structured_input_signature[1]
        found[f"signature {name}"] = str(sorted(inputs.values(), key=str))
        texts = [key for key, spec in inputs.items() if spec.dtype == tf.string]
        if len(texts) == len(inputs) == 1:
            answer = function(**{texts[0]: tf.constant(["the cat sees a dog", "I like 猫"])})
            found[f"answer {name}"] = str({k: v.numpy().tolist() for k, v in answer.items()})
    assert any(name.startswith("answer") for name in found), "the SavedModel was not asked"
    return found


def in_process(action: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return what an action finds in a process of its own: TensorFlow must not run in this one,
    which is forked."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(action()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        written = pipe.read()
    os.waitpid(child, 0)
    return json.loads(written)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Log:
    """The text that a process writes to a file after this object is made."""

    def __init__(self, file: Path) -> None:
        self.file, self.begin = file, file.stat().st_size if file.exists() else 0

    def says(self, *texts: str) -> bool:
        """Return True if one of the texts was written."""
        if not self.file.exists():
            return False
        with self.file.open("rb") as file:
            file.seek(self.begin)
            written = file.read().decode("utf-8", "replace")
        return any(text in written for text in texts)


def run(recipe: str, folder: Path, seconds: float, kills: int) -> tuple[int, float]:
    """Run a recipe to its end after some kills, each within so many seconds after its last epoch.

    Returns: how many there were; seconds from the last epoch to the end.
    """
    for number in range(kills + 1):
        log = Log(folder / "log.txt")
        pid = start(recipe, folder)
        begin, wait = None, random.uniform(0, seconds)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if begin is None and log.says(*TRAINED):
                begin = time.monotonic()
            if number < kills and begin is not None and time.monotonic() - begin > wait:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                break
            time.sleep(0.002 if begin else 0.02)
        code = os.waitstatus_to_exitcode(status)
        if code != -signal.SIGKILL:
            if code and not (code == 2 and log.says("exists already")):  # killed when all was done
                raise RuntimeError(f"status {code}\n" + (folder / "log.txt").read_text()[-3000:])
            return number, time.monotonic() - (begin or time.monotonic())
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
        _, seconds = run(recipe, folder, 0, 0)
        if seconds < 1:
            raise RuntimeError(f"{recipe} does not print {TRAINED[0]!r} after its last epoch")
        known[recipe] = left(folder), seconds
        print(f"{recipe}: {seconds:.0f} s from the last epoch to the end", flush=True)
    done = runs = wrong = 0
    while done < arguments.count and wrong < 5:
        recipe = arguments.recipes[runs % len(arguments.recipes)]
        expected, seconds = known[recipe]
        folder = root / recipe / f"run_{runs}"
        prepare(recipe, folder)
        try:
            kills = min(KILLS_OF_A_RUN, arguments.count - done)
            done += run(recipe, folder, seconds, kills)[0]
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
