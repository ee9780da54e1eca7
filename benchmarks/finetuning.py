"""The effect of instruction fine-tuning.

A model is pre-trained on a text and then fine-tuned; both answer the test file, with the template
of the fine-tuned one, by Keras, greedily. Perplexity and token accuracy are of the answers' tokens,
over all rows; 200 answers are written, of dolly_open_qa 100. The models of the --data cases have
4.2 million parameters and cannot know what is asked. "instructions" needs no --data.

    python -m benchmarks finetuning --data DATA

It takes about 30 minutes on 2 cores. Expect perplexity to fall from thousands to tens.
"""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks import commands
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
JCQA, DOLLY = "instruction/jcommonsenseqa_ja", "instruction/dolly_open_qa"

CASES = (
    Case(
        "instructions",
        "datasets/instructions.csv",
        {"name": "instructions", "rows": 200, "before": [], "after": []},
    ),
    Case(
        "jcommonsenseqa_ja",
        "jcommonsenseqa_ja, 4 epochs",
        {
            "name": "jcommonsenseqa",
            "rows": 200,
            "test": f"{JCQA}/test.csv",
            "before": [
                *("--text", "DATA/lm/neko_ja_train.txt"),
                *("--validation", "DATA/lm/neko_ja_val.txt", "--size", "small"),
                *("--vocabulary-size", "4000", "--context", "128", "--steps", "300"),
                *("--validate-every", "100"),
            ],
            "after": [
                *("--csv", f"DATA/{JCQA}/train.csv", "--validation", f"DATA/{JCQA}/valid.csv"),
                *("--epochs", "4", "--batch-size", "16", "--learning-rate", "1e-3"),
                *("--turns", "1"),
            ],
        },
        (JCQA, "lm/neko_ja_train.txt", "lm/neko_ja_val.txt"),
    ),
    Case(
        "dolly_open_qa",
        "dolly_open_qa, 4 epochs",
        {
            "name": "dolly",
            "rows": 100,
            "test": f"{DOLLY}/test.csv",
            "before": [
                *("--text", "DATA/lm/tinyshakespeare_train.txt"),
                *("--validation", "DATA/lm/tinyshakespeare_val.txt", "--size", "small"),
                *("--vocabulary-size", "4000", "--context", "256", "--steps", "200"),
                *("--validate-every", "100"),
            ],
            "after": [
                *("--csv", f"DATA/{DOLLY}/train.csv", "--validation", f"DATA/{DOLLY}/dev.csv"),
                *("--max-length", "256", "--batch-size", "8", "--epochs", "4"),
                *("--learning-rate", "1e-3"),
            ],
        },
        (DOLLY, "lm/tinyshakespeare_train.txt", "lm/tinyshakespeare_val.txt"),
    ),
)


def bundles(settings: Settings) -> dict[str, str]:
    """The folders of the model before and after fine-tuning."""
    name = settings["name"]
    before = commands.bundle(settings, "pretraining", f"{name}-before", *settings["before"])
    tuning = ("--base", before, *settings["after"])
    after = commands.bundle(settings, "instruction_finetuning", f"{name}-after", *tuning)
    return {"before": before, "after": after}


def scores(settings: Settings, when: str) -> dict[str, float]:
    folders = bundles(settings)
    import tfx_transformer as tfx

    default = commands.ROOT / "datasets" / "instructions_heldout.csv"
    test = Path(settings["data"], settings["test"]) if "test" in settings else default
    read = tfx.data.read_instructions(test)
    model, tokenizer = tfx.load(folders[when])
    template = tfx.ChatTemplate.of(tokenizer)
    length = model.config.max_sequence_length
    batches = tfx.data.instructions(read, template, max_length=length, shuffle=False)
    model.compile()
    measured = model.evaluate(batches, verbose=0, return_dict=True)
    some = read.take(range(min(settings["rows"], len(read))))
    written = tfx.text_generator(model, tokenizer).generate(
        some.prompts(), truncate=True, max_new_tokens=48
    )
    found = tfx.score_answers(written, some.answers())
    return {
        "perplexity of answers": measured["perplexity"],
        "token accuracy, %": 100 * measured["token_accuracy"],
        "token F1": found["token_f1"],
        "exact, %": 100 * found["exact_match"],
    }


SYSTEMS = tuple(
    System(f"tfx-{when}", f"{when} fine-tuning", functools.partial(scores, when=when), OURS, KERAS)
    for when in ("before", "after")
)
