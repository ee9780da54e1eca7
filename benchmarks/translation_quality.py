"""Translation quality.

`tfx-transformer run translation` trains, and every export translates the test file. "en_ja" needs
no --data; small_parallel_enja (https://github.com/odashi/small_parallel_enja) has 50,000
English-Japanese sentences of the Tanaka corpus, split by spaces, so BLEU splits there.

    python -m benchmarks translation_quality --data DATA

It takes 2 minutes for "en_ja", 25 for "odashi-6-epochs" and 45 for "odashi" on 2 quiet cores.
Expect 94 % of en_ja exactly right, BLEU 33 after 6 and 39 after 13 epochs of odashi with 4 beams.
For scale: a GRU with attention is reported at about 37.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path

from benchmarks import commands
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
ODASHI = (
    *("--csv", "DATA/translation/odashi_enja/train.csv"),
    *("--validation", "DATA/translation/odashi_enja/dev.csv"),
    *("--size", "small", "--vocabulary-size", "6000", "--max-length", "48"),
    *("--learning-rate", "1e-3", "--warmup-steps", "1000", "--dropout", "0.15"),
    *("--patience", "3", "--sentence", "i love cats ."),
)
ODASHI_TEST = "translation/odashi_enja/test.csv"

CASES = (
    Case("en_ja", "datasets/en_ja.csv", {"name": "en_ja", "train": [], "tokenize": "char"}),
    *(
        Case(
            name,
            f"small_parallel_enja, {epochs} epochs",
            {
                "name": name,
                "train": [*ODASHI, "--epochs", str(epochs)],
                "test": f"DATA/{ODASHI_TEST}",
                "tokenize": "none",
            },
            ("translation/odashi_enja",),
        )
        for name, epochs in (("odashi", 13), ("odashi-6-epochs", 6))
    ),
)


def answers(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["answer"] for row in csv.DictReader(file)]


def scores(settings: Settings, engine: str, variant: str = "") -> dict[str, float]:
    """Scores on the test file; "equal to Keras" is a share of the greedy translations."""
    name = settings["name"]
    bundle = commands.bundle(settings, "translation", name, *settings["train"])
    default = str(commands.ROOT / "datasets" / "en_ja_heldout.csv")
    [test] = commands.data(settings, [settings.get("test", default)])
    flags = [*commands.engine_flags(engine, variant), "--tokenize", settings["tokenize"]]
    written = {
        kind: Path(settings["work"], f"{name}-{kind}.csv") for kind in ("keras", engine + variant)
    }
    own = written[engine + variant]
    greedy = commands.tool(settings, "evaluate", bundle, test, *flags, "--save", str(own))
    found = {"BLEU, greedy": greedy["bleu"], "exact, %": 100 * greedy["exact_match"]}
    if engine != "saved_model" and not settings["quick"]:
        beams = commands.tool(settings, "evaluate", bundle, test, *flags, "--beams", "4")
        found["BLEU, 4 beams"] = beams["bleu"]
    if engine == "keras":
        found["training, minutes"] = commands.minutes(bundle)
    elif written["keras"].exists():
        both = list(zip(answers(own), answers(written["keras"]), strict=True))
        found["equal to Keras"] = f"{sum(a == b for a, b in both)} of {len(both)}"
    return found | commands.megabytes(bundle, engine, variant)


SYSTEMS = (
    System("tfx-keras", "Keras, float32", functools.partial(scores, engine="keras"), OURS, KERAS),
    System(
        "tfx-saved-model",
        "SavedModel, strings in and out",
        functools.partial(scores, engine="saved_model"),
        OURS,
        KERAS,
    ),
    *(
        System(
            f"tfx-litert-{variant}",
            f"TFLite {variant}",
            functools.partial(scores, engine="litert", variant=variant),
            OURS,
            KERAS,
        )
        for variant in ("float32", "int8")
    ),
)
