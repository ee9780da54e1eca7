"""The first steps of recipes, from given weights: what Keras's backends are compared by."""

from __future__ import annotations

import csv
import inspect
import json
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np

from tfx_transformer import cli, resources, training
from tfx_transformer.models.base import TransformerModel

STEPS = 20
SMALL = {"size": "nano", "epochs": 50, "batch_size": 8}
TABLE = {**SMALL, "csv": "my.csv", "vocabulary_size": 290}
LABELLED = {**TABLE, "text": "text", "label": "label", "linear_buckets": 0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("text_classification", LABELLED),
    "consistency": ("text_classification", {**LABELLED, "consistency": 1.0}),
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
    "translation": ("translation", {**TABLE, "source": "text", "target": "other"}),
    "images": (
        "image_classification",
        {**SMALL, "images": str(resources.dataset_path("images/train")), "image_size": 16},
    ),
}  # fmt: skip
# Settings of all that is drawn at random in a step, but for dropout.
STILL = {"token_dropout": 0.0, "stochastic_depth": 0.0, "mix": 0.0, "new_names": 0.0}


class _Enough(Exception):
    """Raised after the last of `STEPS`."""


class _Record(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))
        if len(self.losses) == STEPS:
            raise _Enough


def write_tables(folder: Path) -> None:
    """Write the tables of all cases."""
    with resources.dataset_path("en_ja.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:161]
    with (folder / "my.csv").open("w", encoding="utf-8", newline="") as file:
        labels = ("long", "short")
        table = [(a, b, labels[len(a) < 24], len(a)) for a, b in rows]
        csv.writer(file).writerows([("text", "other", "label", "length"), *table])
    with (folder / "tags.jsonl").open("w", encoding="utf-8") as file:
        for text, _ in rows:
            tags = [[0, len(text.split()[0]), "FIRST"]]
            file.write(json.dumps({"text": text, "entities": tags}) + "\n")
    story = resources.dataset_path("pretraining.txt").read_text("utf-8")[:12_000]
    (folder / "text.txt").write_text(story, "utf-8")


def first_losses(
    case: str,
    weights: Path,
    seed: int = 1,
    dropout: float = 0.0,
    name: str = "mine",
    **more: Any,
) -> list[float]:
    """Return the losses of the first steps of a recipe: each the mean of its epoch so far.

    Args:
        case: name in `CASES`.
        weights: file of the first weights; the model's own are written there if there is none.
        dropout: share of activations that training drops; nothing else is drawn at random.
        name: name of the run; a run of the same name would go on.
        more: further settings of the recipe.
    """
    recipe, settings = CASES[case]
    main = cli.recipe_main(recipe)
    still = {
        name: value for name, value in STILL.items() if name in inspect.signature(main).parameters
    }
    settings = {**settings, **still, "seed": seed, "dropout": dropout, "name": name} | more
    record, fit = _Record(), TransformerModel.fit

    def begin(model, *arguments, **options):
        values = [v for v in model.weights if "seed_generator" not in v.path]
        if weights.exists():
            with np.load(weights) as held:
                for index, variable in enumerate(values):
                    variable.assign(held[str(index)])
        else:
            arrays = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(values)}
            np.savez(weights, **arrays)
        options["callbacks"] = [*options["callbacks"], record]
        return fit(model, *arguments, **options)

    unchanged = mock.patch.object(training, "augment_images", lambda batches, *_, **__: batches)
    with mock.patch.object(TransformerModel, "fit", begin), unchanged:
        try:
            main(**settings)
        except _Enough:
            return record.losses
    raise AssertionError(f"{case} ended after {len(record.losses)} steps")
