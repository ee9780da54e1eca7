"""The verbs that ask a classifier: classify, and the part of evaluate that scores one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tfx_transformer.arguments import TABLES, is_image_name, refuse_files
from tfx_transformer.cli.engines import add_as_text, add_engine
from tfx_transformer.errors import InputError


def add_classify_verb(verb) -> None:
    """`classify` with its arguments; verb: see `cli.parser`."""
    one = verb("classify", classify)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    one.add_argument(
        "inputs",
        nargs="*",
        metavar="TEXT|IMAGE",
        help="of a model of several text columns, those of one row after the other",
    )
    one.add_argument("--csv", metavar="FILE.csv", help="label every row of it instead")
    one.add_argument("--column", help="of the texts or images in --csv [as in training]")
    add_as_text(one)
    one.add_argument("--top", type=int, default=1, help="labels to show of each [1]")
    add_engine(one)


def classify(chosen: argparse.Namespace) -> dict[str, Any]:
    """label texts or images with a bundle"""
    from tfx_transformer import bundle
    from tfx_transformer.evaluation.mistakes import as_text
    from tfx_transformer.runtime import describe, rows_of

    if chosen.top < 1:
        raise InputError(f"--top is {chosen.top}.\n  Expected 1 or more.")
    config = bundle.read_config(chosen.bundle)
    rows = _rows(chosen, config) if chosen.csv else None
    if bool(chosen.inputs) == bool(chosen.csv):
        raise InputError(
            "there is nothing to label, or two kinds.\n  Give texts or images, or --csv FILE.csv."
        )
    if config["architecture"].get("image_size"):
        _check_images(chosen)
    else:
        remedy = (
            "A table is labelled with --csv FILE.csv --column COLUMN, and scored with:\n"
            "  tfx-transformer evaluate BUNDLE FILE.csv"
        )
        refuse_files(chosen.inputs, remedy, chosen.as_text)
    model = classifier(chosen)
    rows = rows or rows_of(chosen.inputs, config)
    found = model.classify(rows)
    for row, one in zip(rows, found, strict=True):
        best = sorted(one.probabilities.items(), key=lambda item: -item[1])[: chosen.top]
        shown = ", ".join(f"{name}  {100 * probability:.1f} %" for name, probability in best)
        print(f"{shown if chosen.top > 1 else describe(one)}   {as_text(row)}")
    pairs = zip(rows, found, strict=True)
    return {"answers": [{"input": given, **one._asdict()} for given, one in pairs]}


def _rows(chosen: argparse.Namespace, config: dict[str, Any]) -> list[Any]:
    """Return the rows of --csv: texts, tuples of texts, or files of images."""
    from tfx_transformer.data.labelled_text import text_columns
    from tfx_transformer.data.tables import read_table

    if config["architecture"].get("image_size"):
        column = chosen.column or "path"
        names = read_table(chosen.csv, {"path": column}).columns["path"]
        return [str(Path(chosen.csv).parent / name) for name in names]
    count = config.get("text_columns", 1)
    columns = text_columns(chosen.column or config.get("columns") or "text")
    if len(columns) != count:
        raise InputError(
            f"--column names {len(columns)} columns; the classifier reads {count} texts of each "
            'row.\n  Name them with commas, or as JSON: --column \'["title", "body"]\'.'
        )
    table = read_table(chosen.csv, columns, allow_empty=columns if count > 1 else ())
    rows = list(zip(*table.columns.values(), strict=True))
    return rows if count > 1 else [text for (text,) in rows]


def _check_images(chosen: argparse.Namespace) -> None:
    """Refuses what no image classifier reads, in words that say what to give instead."""
    for name in chosen.inputs:
        path = Path(name)
        if path.is_dir():
            raise InputError(
                f"{name} is a folder.\n  Name its images ({name}/*), or score a folder with a "
                "folder for each label:\n  tfx-transformer evaluate BUNDLE FOLDER"
            )
        if name.lower().endswith(TABLES):
            raise InputError(
                f"{name} is not an image.\n"
                "  The images that a table names are labelled with --csv FILE.csv --column COLUMN."
            )
        if not path.exists() and not is_image_name(name):
            raise InputError(
                f"there is no file {name!r}, and {chosen.bundle} reads images, not texts.\n"
                "  Name image files, or choose a text classifier."
            )


def classifier(chosen: argparse.Namespace):
    """The bundle's classifier, on the chosen engine.

    Raises:
        InputError: the bundle is not a classifier, or the engine runs none.
    """
    from tfx_transformer import bundle
    from tfx_transformer.runtime.tasks import TASKS

    config = bundle.read_config(chosen.bundle)
    row = TASKS.get(config["task"])
    if row is None or row.verb != "classify":
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

    @bundle.consistent_read
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
