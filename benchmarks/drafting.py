"""Look-up drafting: steps that read several tokens of a text that repeats itself.

Models with random weights write given texts: at each step the next token of the text is chosen,
whatever the logits are, so that as many drafts are right as for a model that writes these texts.
The table has new tokens per processor second, the prompt and the sampler included; the same engine
runs with drafts and without, in turn. "ratio" is the median of the rounds and the middle half of
them; "steps" is the share of steps that are left.

    python -m benchmarks drafting --data DATA

It takes about 20 minutes, by an estimate: only translations in int8 were timed yet. Expect, on a
busy machine, those with names to copy to be written 1.1 to 1.2 times as fast.
"""

from __future__ import annotations

import csv
import functools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
VOCABULARY, CONTEXT, LONGEST_SOURCE = 8192, 1024, 128
ROUNDS, TEXTS = 12, 24
TEMPLATES = (
    ("{name} lives in {place} at number {number}.", "{name} wohnt in {place} in Nummer {number}."),
    ("I met {name} in {place} again.", "Ich traf {name} in {place} wieder."),
    ("Call {name} at {number} today.", "Ruf {name} heute unter {number} an."),
)

Texts = list[tuple[str, str]]


def names(settings: Settings) -> tuple[Texts, Texts]:
    """Sentences with names and numbers that the translation copies: for the tokenizer, and to
    write."""
    random = np.random.default_rng(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]

    def word() -> str:
        return "".join(random.choice(syllables, random.integers(2, 4))).title()

    def sentence() -> tuple[str, ...]:
        filled = {
            "name": f"{word()} {word()}",
            "place": word(),
            "number": random.integers(1000, 99999),
        }
        template = TEMPLATES[random.integers(len(TEMPLATES))]
        return tuple(text.format(**filled) for text in template)

    known, new = ([sentence() for _ in range(count)] for count in (2000, TEXTS))
    return known, new


def table(settings: Settings) -> tuple[Texts, Texts]:
    """Rows of tables with input and output: those for the tokenizer, and those to write."""
    columns, fewest = settings["columns"], settings["fewest_words"]

    def rows(name: str) -> Texts:
        with open(Path(settings["data"], name), encoding="utf-8", newline="") as file:
            found = [[row[column] for column in columns] for row in csv.DictReader(file)]
        pairs = [("\n".join(filter(None, before)), after) for *before, after in found]
        # The last column before the output is what an answer may repeat.
        wanted = [len(row[-2].split()) >= fewest and len(row[-1]) > 0 for row in found]
        return [pair for pair, is_wanted in zip(pairs, wanted, strict=True) if is_wanted]

    learned, written = settings["files"]
    return rows(learned), rows(written)[:TEXTS]


SOURCES = {"names": names, "table": table}


def encoded(settings: Settings) -> list[tuple[list[int], list[int]]]:
    """The ids of each prompt, and of what is written after it."""
    from tfx_transformer import Tokenizer

    learned, written = SOURCES[settings["texts"]](settings)
    tokenizer = Tokenizer.train((text for pair in learned for text in pair), VOCABULARY)
    longest = LONGEST_SOURCE if settings["translates"] else CONTEXT // 2
    return [
        (
            [*tokenizer.encode(before)[: longest - 1], tokenizer.end_id],
            tokenizer.encode(after)[:200],
        )
        for before, after in written
    ]


def engine(settings: Settings, variant: str):
    """The engine of the exported file, which is made once."""
    import keras

    from tfx_transformer import CausalLM, Seq2SeqLM, TransformerConfig
    from tfx_transformer.export.to_litert import convert
    from tfx_transformer.runtime.causal import CausalEngine
    from tfx_transformer.runtime.seq2seq import Seq2SeqEngine

    translates = settings["translates"]
    config = shapes.SMALL_LONG.config()
    if translates:
        config = TransformerConfig(
            vocabulary_size=VOCABULARY,
            num_layers=3,
            num_heads=4,
            hidden_dim=256,
            intermediate_dim=1024,
            max_sequence_length=LONGEST_SOURCE,
        )
    kind = "translator" if translates else "writer"
    file = shapes.work_file(settings, f"drafting-{kind}-{variant}.tflite")
    if not file.exists():
        keras.utils.set_random_seed(0)
        model = (Seq2SeqLM if translates else CausalLM)(config)
        convert(model, file, None if variant == "float32" else variant)
    return (Seq2SeqEngine if translates else CausalEngine)(file, config, threads=1)


class Dictated:
    """Chooses the tokens of a text; see `generation.loop.decode`."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.written = ids, 0

    def choose(self, logits, left, advance):
        logits[:, self.ids[self.written]] = 1e6
        return advance(logits)

    def __call__(self, ids) -> bool:
        self.written += 1
        return self.written == len(self.ids)


def measure(settings: Settings, variant: str) -> dict[str, float | str]:
    """Write the texts with drafts and without, in turn."""
    from tfx_transformer.generation import GenerationOptions
    from tfx_transformer.generation.drafting import Hits
    from tfx_transformer.runtime.signature import Signature

    texts, runner = encoded(settings), engine(settings, variant)
    steps = {"drafted": 0, "single": 0}
    invoke, counted = Signature.invoke, "single"

    def watched(self, *buffers):
        steps[counted] += "decode" in self.name or "verify" in self.name
        invoke(self, *buffers)

    Signature.invoke = watched
    speeds: dict[str, list[float]] = {"drafted": [], "single": []}
    for turn in range(2 if settings["quick"] else ROUNDS + 1):
        for counted in steps:
            runner.hits = Hits(runner.config.hidden_dim) if counted == "drafted" else None
            begin, tokens = time.process_time(), 0
            for before, after in texts:
                options = GenerationOptions(max_new_tokens=len(after))
                runner.generate_ids([before], options, Dictated(after))
                tokens += len(after)
            if turn:  # the first round warms up
                speeds[counted].append(tokens / (time.process_time() - begin))
    ratios = [a / b for a, b in zip(speeds["drafted"], speeds["single"], strict=True)]
    return {
        "single steps": statistics.median(speeds["single"]),
        "drafted": statistics.median(speeds["drafted"]),
        "ratio": "{1:.2f} ({0:.2f} to {2:.2f})".format(*np.quantile(ratios, (0.25, 0.5, 0.75))),
        "steps": f"{100 * steps['drafted'] / steps['single']:.0f} %",
    }


def case(name: str, title: str, texts: str = "table", files=(), **settings) -> Case:
    values = {"texts": texts, "files": files, "translates": False, "fewest_words": 0, **settings}
    return Case(name, title, values, tuple(files))


QUESTION = {"columns": ("instruction", "input", "output")}
WRITTEN_AGAIN = (
    "instruction/self_instruct_seed.csv",
    "instruction/self_instruct_user_oriented_test.csv",
)
QUOTED = ("instruction/jcommonsenseqa_ja/train.csv", "instruction/jcommonsenseqa_ja/test.csv")
OPEN = ("instruction/dolly_open_qa/train.csv", "instruction/dolly_open_qa/test.csv")
GERMAN = (
    "translation/multi30k_ende/test_2016_flickr.csv",
    "translation/multi30k_ende/test_2018_flickr.csv",
)
CASES = (
    case("names", "translation with names and numbers to copy", "names", translates=True),
    case(
        "again",
        "summaries and texts written again",
        files=WRITTEN_AGAIN,
        fewest_words=30,
        **QUESTION,
    ),
    case("quotes", "answers that quote the question (Japanese)", files=QUOTED, **QUESTION),
    case("open", "answers of their own words", files=OPEN, **QUESTION),
    case(
        "plain",
        "translation without names",
        files=GERMAN,
        columns=("source", "target"),
        translates=True,
    ),
)
SYSTEMS = tuple(
    System(
        f"tfx-litert-{variant}",
        f"ours, LiteRT {variant}",
        functools.partial(measure, variant=variant),
        (*OURS, "ai-edge-litert"),
        KERAS,
    )
    for variant in ("int8", "float32")
)
