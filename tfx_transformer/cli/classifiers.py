"""The verbs that ask a classifier: classify, and the part of evaluate that scores one."""

from __future__ import annotations

import argparse
from typing import Any

from tfx_transformer.cli.engines import add_engine
from tfx_transformer.errors import InputError


def add_classify_verb(verb) -> None:
    """`classify` with its arguments; verb: see `cli.parser`."""
    one = verb("classify", classify)
    one.add_argument("bundle")
    one.add_argument(
        "inputs",
        nargs="+",
        metavar="TEXT|IMAGE",
        help="of a model of several text columns, those of one row after the other",
    )
    one.add_argument("--top", type=int, default=1, help="labels to show of each [1]")
    add_engine(one)


def classify(chosen: argparse.Namespace) -> dict[str, Any]:
    """label texts or images with a bundle"""
    from tfx_transformer import bundle
    from tfx_transformer.evaluation.mistakes import as_text
    from tfx_transformer.runtime import describe, rows_of

    if chosen.top < 1:
        raise InputError(f"--top is {chosen.top}.\n  Expected 1 or more.")
    model = classifier(chosen)
    rows = rows_of(chosen.inputs, bundle.read_config(chosen.bundle))
    found = model.classify(rows)
    for row, one in zip(rows, found, strict=True):
        best = sorted(one.probabilities.items(), key=lambda item: -item[1])[: chosen.top]
        shown = ", ".join(f"{name}  {100 * probability:.1f} %" for name, probability in best)
        print(f"{shown if chosen.top > 1 else describe(one)}   {as_text(row)}")
    pairs = zip(rows, found, strict=True)
    return {"answers": [{"input": given, **one._asdict()} for given, one in pairs]}


def classifier(chosen: argparse.Namespace):
    """The bundle's classifier, on the chosen engine.

    Raises:
        InputError: the bundle is no classifier, or the engine runs none.
    """
    from tfx_transformer import bundle

    config = bundle.read_config(chosen.bundle)
    if config["task"] != "classification":
        raise InputError(
            f"{chosen.bundle}: its task is {config['task']!r}.\n  Expected a classifier."
        )
    if chosen.variant and chosen.engine != "litert":
        raise InputError("--variant chooses a TFLite file; --engine keras has none.\n  Drop it.")
    if chosen.engine == "litert":
        from tfx_transformer import runtime

        return runtime.load(chosen.bundle, chosen.variant)
    if chosen.engine != "keras":
        raise InputError(
            f"--engine {chosen.engine} runs no classifier here.\n  Use litert or keras."
        )
    from tfx_transformer.models.predicting import predictor
    from tfx_transformer.models.saving import load
    from tfx_transformer.prediction.classification import read_labels

    @bundle.whole
    def open_keras_model(path: str):
        model, tokenizer = load(path)
        names = read_labels(bundle.read_config(path), model.config.num_classes, path)
        return predictor(model, tokenizer, names)

    return open_keras_model(chosen.bundle)


def evaluate_classifier(chosen: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    """Scores a classifier on a CSV, or of images also on a folder with a folder for each label."""
    from tfx_transformer import data
    from tfx_transformer.evaluation.labels import score_labels, score_multi_label
    from tfx_transformer.evaluation.mistakes import (
        as_text,
        most_confident_mistakes,
        write_mistakes,
    )

    model, names = classifier(chosen), config["labels"]
    several = bool(config["architecture"]["multi_label"])
    if several and chosen.save:
        raise InputError("--save lists the mistakes where a row has one label.\n  Drop it.")
    skip = {"skip_bad_rows": chosen.skip_bad_rows}
    if config["architecture"]["image_size"]:
        read = data.read_labelled_images(chosen.file, chosen.path, chosen.label, **skip)
        truth = read.targets(names)
    else:
        separator = chosen.separator or ("|" if several else "")
        read = data.read_labelled_texts(chosen.file, chosen.text, chosen.label, separator, **skip)
        truth = read.targets(names, several)
    probabilities = model.probabilities(read.inputs)
    scores = (score_multi_label if several else score_labels)(probabilities, truth, names)
    right = scores["exact_match"] if several else scores["accuracy"]
    print(f"right {100 * right:.2f} % of {len(truth):,}  macro-F1 {100 * scores['macro_f1']:.2f} %")
    for name, one in scores["per_class"].items():
        print(
            f"  {name:<24} precision {100 * one['precision']:5.1f} %  "
            f"recall {100 * one['recall']:5.1f} %  F1 {100 * one['f1']:5.1f} %  of {one['count']:,}"
        )
    if chosen.save:
        shown = list(map(as_text, read.inputs))
        mistakes = most_confident_mistakes(shown, probabilities, truth, names, len(truth))
        write_mistakes(chosen.save, mistakes)
    return scores
