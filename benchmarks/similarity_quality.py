"""Similarity of sentences.

Spearman's correlation of cosines with people's scores, times 100: STS-B (1,379 test pairs in
English, and their translation into Japanese) and WordSim353. Words and their weights are counted on
the texts of the test file. all-MiniLM-L6-v2 is in the folder DATA/all-MiniLM-L6-v2.

    python -m benchmarks similarity_quality --data DATA

It takes about 5 minutes on 2 cores. Expect a new embedder above TF-IDF, and
all-MiniLM-L6-v2 at 82.0 on STS-B, as published.
"""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks import commands
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
MINILM = "all-MiniLM-L6-v2"
SENTENCES = ("--first", "sentence1", "--second", "sentence2", "--score", "score")
WORDS = ("--first", "word1", "--second", "word2", "--score", "score")
STSB = "vectors/stsb_en"

CASES = tuple(
    Case(name, title, {"csv": f"DATA/{path}", "columns": columns}, (path, STSB))
    for name, title, path, columns in (
        ("stsb", "STS-B", f"{STSB}/test.csv", SENTENCES),
        ("stsb-ja", "STS-B, Japanese", "vectors/stsb_ja/test.csv", SENTENCES),
        ("wordsim353", "WordSim353", "vectors/wordsim353.csv", WORDS),
    )
)


def correlation(settings: Settings, row: str, bundle: str = "", variant: str = "") -> dict:
    """The row of this name that `tfx-transformer similar` prints."""
    flags = commands.engine_flags("litert", variant) if variant else []
    pairs = commands.data(settings, ["--csv", settings["csv"], *settings["columns"]])
    found = commands.tool(settings, "similar", *([bundle] if bundle else []), *pairs, *flags)
    return {"Spearman's correlation, times 100": 100 * found["spearman"][row]}


def counted(settings: Settings, row: str) -> dict[str, float]:
    return correlation(settings, row)


def trained(settings: Settings) -> dict[str, float]:
    """By an embedder trained on the 5,749 pairs of STS-B."""
    bundle = commands.bundle(
        settings,
        "embedding",
        "sts",
        *("--csv", f"DATA/{STSB}/train.csv", "--validation", f"DATA/{STSB}/dev.csv"),
        *SENTENCES,
    )
    return correlation(settings, "sts", bundle, "float32")


def loaded(settings: Settings, variant: str) -> dict[str, float]:
    """By all-MiniLM-L6-v2, exported once."""
    folder = Path(settings["data"], MINILM)
    if not folder.exists():
        raise FileNotFoundError(f"the folder of --data has no {MINILM}")
    bundle = Path(settings["work"], "saved_models", "minilm")
    if not bundle.exists():
        made = ("--name", "minilm", "--to", "litert")
        commands.tool(settings, "export", str(folder), *made)
        commands.tool(settings, "export", str(bundle), "--to", "litert", "--quantize", "int8")
    return correlation(settings, "minilm", str(bundle), variant)


SYSTEMS = (
    System("bag", "bag of words", functools.partial(counted, row="bag of words"), OURS),
    System("tfidf", "TF-IDF", functools.partial(counted, row="TF-IDF"), OURS),
    System("tfx-trained", "embedder trained from scratch on STS-B", trained, OURS, KERAS),
    *(
        System(
            f"tfx-minilm-{variant}",
            f"all-MiniLM-L6-v2, loaded, TFLite {variant}",
            functools.partial(loaded, variant=variant),
            OURS,
            KERAS,
        )
        for variant in ("float32", "int8")
    ),
)
