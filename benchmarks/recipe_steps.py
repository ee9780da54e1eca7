"""The first steps of recipes, from given weights, to compare Keras's backends."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np

import tfx_transformer as tfx
from tfx_transformer import cli, resources, training

STEPS = 20
SMALL = {"size": "nano", "epochs": 50, "batch_size": 8}
TABLE = {**SMALL, "csv": "my.csv", "vocabulary_size": 290}
LABELLED = {**TABLE, "text": "text", "label": "label", "linear_buckets": 0}
ASSISTANT = {
    "base": "assistant",
    "method": "lora",
    "base_dtype": "nf4",
    "epochs": 50,
    "batch_size": 4,
    "max_length": 80,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("text_classification", LABELLED),
    "consistency": ("text_classification", {**LABELLED, "consistency": 1.0}),
    "several labels": ("text_classification", {**LABELLED, "label": "both", "separator": "|"}),
    "few rows": (
        "text_classification",
        {"csv": "few.csv", "base": "masked", "size": "nano", "epochs": 50, "batch_size": 8},
    ),
    "regression": ("text_regression", {**TABLE, "text": "text", "target": "length"}),
    "embedding": ("embedding", {**TABLE, "first": "text", "second": "other"}),
    "scores": ("embedding", {**TABLE, "first": "text", "second": "other", "score": "length"}),
    "tagging": ("tagging", {**SMALL, "data": "tags.jsonl", "text": "text"}),
    "pretraining": (
        "pretraining",
        {"size": "nano", "text": "text.txt", "batch_size": 4, "context": 19,
         "vocabulary_size": 290, "steps": 40},
    ),
    "masked": (
        "pretraining",
        {"size": "nano", "text": "text.txt", "batch_size": 4, "context": 19,
         "vocabulary_size": 290, "steps": 40, "objective": "masked"},
    ),
    "lora": (
        "instruction_finetuning",
        {**TABLE, "instruction": "text", "input": "label", "output": "other", "method": "lora"},
    ),
    "dora": (
        "instruction_finetuning",
        {**TABLE, "instruction": "text", "input": "label", "output": "other", "method": "dora"},
    ),
    "instructions": (
        "instruction_finetuning",
        {**TABLE, "instruction": "text", "input": "label", "output": "other", "pack": True},
    ),
    "tools": (
        "tool_calling",
        {**SMALL, "csv": "calls.csv", "layers": 1, "copies": 1, "vocabulary_size": 420,
         "max_length": 96, "warmup_steps": 1},
    ),
    "preferences": (
        "preference_finetuning",
        {"csv": "choices.csv", "base": "assistant", "epochs": 50, "batch_size": 4,
         "max_length": 80},
    ),
    "lora in 4 bits": (
        "instruction_finetuning",
        {**ASSISTANT, "csv": "my.csv", "instruction": "text", "input": "label", "output": "other"},
    ),
    "preferences in 4 bits": ("preference_finetuning", {**ASSISTANT, "csv": "choices.csv"}),
    "translation": ("translation", {**TABLE, "source": "text", "target": "other"}),
    "images": (
        "image_classification",
        {**SMALL, "images": str(resources.dataset_path("images/train")), "image_size": 16},
    ),
}  # fmt: skip
# Settings that draw nothing at random in a step.
STILL = {
    "dropout": 0.0,
    "token_dropout": 0.0,
    "stochastic_depth": 0.0,
    "mix": 0.0,
    "new_names": 0.0,
}


class _Done(Exception):
    """Raised after the last step."""


class _Record(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


def write_tables(folder: Path) -> None:
    """Write the tables of all cases, and the bases of some."""
    with resources.dataset_path("en_ja.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:161]
    labels = ("long", "short")
    table = [(a, b, labels[len(a) < 24], len(a), f"{labels[len(a) < 24]}|{a[0]}") for a, b in rows]
    write(folder / "my.csv", ("text", "other", "label", "length", "both"), table)
    write(folder / "few.csv", ("text", "label"), [(row[0], row[2]) for row in table[:30]])
    # Rows of a prompt, its translation, and that of the row before.
    choices = [(a, b, other[1]) for (a, b), other in zip(rows, [rows[-1], *rows[:-1]], strict=True)]
    write(folder / "choices.csv", ("prompt", "chosen", "rejected"), choices)
    with (folder / "tags.jsonl").open("w", encoding="utf-8") as file:
        for text, _ in rows:
            tags = [[0, len(text.split()[0]), "FIRST"]]
            file.write(json.dumps({"text": text, "entities": tags}) + "\n")
    with resources.dataset_path("tools.csv").open(encoding="utf-8") as file:
        header, *calls = [row[:3] for row in csv.reader(file)][:121]
    write(folder / "calls.csv", header, calls)
    declared = resources.dataset_path("tools.json").read_text("utf-8")
    (folder / "tools.json").write_text(declared, "utf-8")
    story = resources.dataset_path("pretraining.txt").read_text("utf-8")[:12_000]
    (folder / "text.txt").write_text(story, "utf-8")
    _save_bases(folder, [a for a, _ in rows])


def write(path: Path, header: Sequence[str], rows: Any) -> None:
    """Write a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _save_bases(folder: Path, texts: Sequence[str]) -> None:
    """Save an assistant and an encoder with random weights."""
    keras.utils.set_random_seed(1)
    for name, cls, style, special in (
        ("assistant", tfx.CausalLM, "llama", tfx.ROLE_TOKENS),
        ("masked", tfx.MaskedLM, "bert", [tfx.MASK_TOKEN]),
    ):
        tokenizer = tfx.Tokenizer.train(texts, 290, special)
        size = tokenizer.vocabulary_size
        config = tfx.TransformerConfig.of_size("nano", size, style, max_sequence_length=80)
        if not (folder / name).exists():
            tfx.save(folder / name, cls(config), tokenizer)


def first_losses(case: str, weights: Path, name: str = "mine", **more: Any) -> list[float]:
    """Return the losses of the first steps of a recipe, without dropout and augmentation: each the
    mean of the steps so far.

    Args:
        case: name in `CASES`.
        weights: file of the first weights; the model's own are written there if there is none.
        name: name of the run.
        more: further settings of the recipe.
    """
    unchanged = mock.patch.object(training, "augment_images", lambda batches, *_, **__: batches)
    main = cli.recipe_main(CASES[case][0])
    known = inspect.signature(main).parameters
    still = {name: value for name, value in STILL.items() if name in known}
    with unchanged:
        settings = still | more
        return losses_of_steps(case, weights, [0], name, still=True, **settings)[0]


def losses_of_steps(
    case: str,
    weights: Path,
    seeds: Sequence[int],
    name: str = "mine",
    *,
    still: bool = False,
    **more: Any,
) -> list[list[float]]:
    """Return the losses of `STEPS` steps of a recipe for each seed: each the mean of the steps so
    far.

    Args:
        case, weights, name, more: see `first_losses`.
        seeds: each has batches of its own and other random numbers; the first weights are the same.
        still: without the dropout of a base.
    """
    recipe, settings = CASES[case]
    found: list[list[float]] = []

    def fit(run, model, batches, *_, **__):
        _begin(model, weights)
        if still:
            training.disable_dropout(model)
        model.optimizer.build(model.trainable_variables)
        variables = [*model.variables, *model.optimizer.variables]
        first = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
        for seed in seeds:
            for variable, value in zip(variables, first, strict=True):
                is_seed = "seed_generator" in variable.path
                variable.assign(np.array([seed, 0], value.dtype) if is_seed else value)
            record = _Record()
            steps = batches.from_step(seed * STEPS)
            model.fit(steps, steps_per_epoch=STEPS, callbacks=[record], shuffle=False, verbose=0)
            found.append(record.losses)
        raise _Done

    with mock.patch.object(training.Run, "fit", fit):
        try:
            cli.recipe_main(recipe)(**settings | {"seed": 1, "name": name} | more)
        except _Done:
            return found
    raise AssertionError(f"{case} did not train")


def _begin(model: Any, weights: Path) -> None:
    """Set the weights of a model to those of a file; write them if there is none."""
    values = [v for v in model.weights if "seed_generator" not in v.path]
    if weights.exists():
        with np.load(weights) as held:
            for index, variable in enumerate(values):
                variable.assign(held[str(index)])
        return
    held = {str(i): np.asarray(keras.ops.convert_to_numpy(v)) for i, v in enumerate(values)}
    # Files of NumPy have no bfloat16, whose kind is "V".
    np.savez(
        weights, **{i: a.astype("float32") if a.dtype.kind == "V" else a for i, a in held.items()}
    )
