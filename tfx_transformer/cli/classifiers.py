"""The verbs that ask a classifier: classify, and the part of evaluate that scores one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_transformer.arguments import TABLES, is_image_name, refuse_files
from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import Engine, Variant
from tfx_transformer.errors import InputError

if TYPE_CHECKING:
    from tfx_transformer.cli.scoring import Scored


def classify(
    bundle: Path,
    /,
    *inputs: str,
    csv: Path | None = None,
    column: str | None = None,
    as_text: bool = False,
    top: int = 1,
    engine: Engine = "litert",
    variant: Variant | None = None,
    reading: TableReading,
) -> dict[str, Any]:
    """Label texts or images with a bundle.

    Args:
        bundle: Folder of a bundle, such as saved_models/topics.
        inputs (TEXT|IMAGE): Texts or image files. If a model reads several text columns: the texts
            of a row one after the other.
        csv (FILE.csv): Table whose rows are labelled instead.
        column (NAME): Column of the texts or images in --csv. [as in training]
        as_text: Read TEXT as a text, even if it looks like the name of a file.
        top: Labels to show for each input.
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        reading: How to read the table of --csv, where that cannot be detected.
    """
    from tfx_transformer.bundle import read_config
    from tfx_transformer.evaluation.mistakes import as_text as shown_text
    from tfx_transformer.runtime import describe, rows_of

    if top < 1:
        raise InputError(f"--top is {top}.\n  Expected 1 or more.")
    config = read_config(bundle)
    table = reading.given_file(csv)
    rows = _rows(table, column, config) if table else None
    if not inputs and not csv:
        raise InputError("there is nothing to label.\n  Give texts or images, or --csv FILE.csv.")
    if inputs and csv:
        raise InputError("there are texts or images, and --csv.\n  Give one of the two.")
    if config["architecture"].get("image_size"):
        _check_images(bundle, inputs)
    else:
        remedy = (
            "A table is labelled with --csv FILE.csv --column COLUMN, and scored with:\n"
            "  tfx-transformer evaluate BUNDLE FILE.csv"
        )
        refuse_files(inputs, remedy, as_text)
    model = classifier(bundle, engine, variant)
    rows = rows or rows_of(inputs, config)
    found = model.classify(rows)
    for row, one in zip(rows, found, strict=True):
        best = sorted(one.probabilities.items(), key=lambda item: -item[1])[:top]
        shown = ", ".join(f"{name}  {100 * probability:.1f} %" for name, probability in best)
        print(f"{shown if top > 1 else describe(one)}   {shown_text(row)}")
    pairs = zip(rows, found, strict=True)
    return {"answers": [{"input": given, **one._asdict()} for given, one in pairs]}


def _rows(csv: str | os.PathLike[str], column: str | None, config: dict[str, Any]) -> list[Any]:
    """Return the rows of a table: texts, tuples of texts, or image files."""
    from tfx_transformer.data.labelled_text import text_columns
    from tfx_transformer.data.tables import read_table

    if config["architecture"].get("image_size"):
        names = read_table(csv, {"column": column or "path"}).columns["column"]
        return [str(Path(csv).parent / name) for name in names]
    count = config.get("text_columns", 1)
    columns = text_columns(column or config.get("columns") or "text", role="column")
    if len(columns) != count:
        raise InputError(
            f"--column names {len(columns)} columns; the classifier reads {count} texts of each "
            'row.\n  Name them with commas, or as JSON: --column \'["title", "body"]\'.'
        )
    table = read_table(csv, columns, allow_empty=columns if count > 1 else ())
    rows = list(zip(*table.columns.values(), strict=True))
    return rows if count > 1 else [text for (text,) in rows]


def _check_images(bundle: Path, inputs: Sequence[str]) -> None:
    """Raise an InputError for an input that is not an image file, with the remedy."""
    for name in inputs:
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
                f"there is no file {name!r}, and {bundle} reads images, not texts.\n"
                "  Name image files, or choose a text classifier."
            )


def classifier(
    path: Path,
    engine: str,
    variant: Variant | None,
    verb: str = "classify",
    noun: str = "classifier",
) -> Any:
    """Return the classifier of the bundle at a path, on an engine; or the model of another verb.

    Args:
        verb: of its row in `runtime.tasks.TASKS`.
        noun: what such a model is called.

    Raises:
        InputError: the bundle is not one, or the engine runs none.
    """
    from tfx_transformer import bundle
    from tfx_transformer.runtime.tasks import TASKS

    config = bundle.read_config(path)
    row = TASKS.get(config["task"])
    if row is None or row.verb != verb:
        other = f" This bundle is for: tfx-transformer {row.verb}" if row and row.verb else ""
        raise InputError(f"{path}: its task is {config['task']!r}.\n  Expected a {noun}.{other}")
    if variant and engine != "litert":
        raise InputError("--variant chooses a TFLite file; --engine keras has none.\n  Drop it.")
    if engine == "litert":
        from tfx_transformer import runtime

        return runtime.load(path, variant)
    if engine != "keras":
        raise InputError(f"--engine {engine} does not run a {noun}.\n  Use litert or keras.")
    from tfx_transformer.models.predicting import predictor
    from tfx_transformer.models.saving import load
    from tfx_transformer.prediction.classification import read_labels

    @bundle.consistent_read
    def open_keras_model(opened: str):
        model, tokenizer = load(opened)
        names = ()
        if model.has_classes:
            names = read_labels(bundle.read_config(opened), model.config.num_classes, opened)
        answering: Any = predictor(model, tokenizer, names)
        answering.engine.begin_eagerly()
        return answering

    return open_keras_model(path)


def evaluate_classifier(scored: Scored) -> dict[str, Any]:
    """Score a classifier on a table; of images also on a folder with a folder for each label."""
    from tfx_transformer.evaluation.labels import score_labels, score_multi_label
    from tfx_transformer.evaluation.mistakes import (
        as_text,
        most_confident_mistakes,
        write_mistakes,
    )

    model, names = classifier(scored.bundle, scored.engine, scored.variant), scored.config["labels"]
    several = bool(scored.config["architecture"]["multi_label"])
    if several and scored.save:
        raise InputError("--save lists the mistakes where a row has one label.\n  Drop it.")
    read = read_labelled(scored)
    truth = read.targets(names, True) if several else read.targets(names)
    probabilities = model.probabilities(read.inputs)
    scores = (score_multi_label if several else score_labels)(probabilities, truth, names)
    right = scores["exact_match"] if several else scores["accuracy"]
    print(f"right {100 * right:.2f} % of {len(truth):,}  macro-F1 {100 * scores['macro_f1']:.2f} %")
    for name, one in scores["per_class"].items():
        print(
            f"  {name:<24} precision {100 * one['precision']:5.1f} %  "
            f"recall {100 * one['recall']:5.1f} %  F1 {100 * one['f1']:5.1f} %  of {one['count']:,}"
        )
    if scored.save:
        shown = list(map(as_text, read.inputs))
        mistakes = most_confident_mistakes(shown, probabilities, truth, names, len(truth))
        write_mistakes(scored.save, mistakes)
    return scores


def read_labelled(scored: Scored) -> Any:
    """Return the labelled texts or images on which a classifier is scored."""
    from tfx_transformer import data

    architecture = scored.config["architecture"]
    skip = {"skip_bad_rows": scored.skip_bad_rows}
    if architecture["image_size"]:
        return data.read_labelled_images(scored.file, *scored.columns.values(), **skip)
    text, label, separator = scored.columns.values()
    separator = separator or ("|" if architecture["multi_label"] else "")
    return data.read_labelled_texts(scored.file, text, label, separator, **skip)
