"""The verb that asks a tagger, tag, and the part of evaluate that scores one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_transformer.cli.classifiers import classifier
from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import Engine, Variant, read_texts

if TYPE_CHECKING:
    from tfx_transformer.cli.scoring import Scored
    from tfx_transformer.prediction.tagging import TextTagger


def tag(
    bundle: Path,
    /,
    *texts: str,
    csv: Path | None = None,
    column: str | None = None,
    as_text: bool = False,
    engine: Engine = "litert",
    variant: Variant | None = None,
    reading: TableReading,
) -> dict[str, Any]:
    """Mark names, places and the like in texts with a bundle.

    Args:
        bundle: Folder of a bundle, such as saved_models/tags.
        texts (TEXT): Texts to mark.
        csv (FILE.csv): Table whose column is read instead.
        column (NAME): Column of the texts in --csv. [as in training]
        as_text: Read TEXT as a text, even if it looks like the name of a file.
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        reading: How to read the table of --csv, where that cannot be detected.
    """
    from tfx_transformer.bundle import read_config
    from tfx_transformer.runtime import describe_entities

    if csv and not column:
        column = (read_config(bundle).get("columns") or ["text"])[0]
    read = read_texts(texts, csv, column, as_text, reading)
    found = open_tagger(bundle, engine, variant).tag(read)
    for text, entities in zip(read, found, strict=True):
        print(f"{describe_entities(entities)}   {text}")
    pairs = zip(read, found, strict=True)
    return {"answers": [{"input": text, "spans": [e._asdict() for e in es]} for text, es in pairs]}


def open_tagger(path: Path, engine: str, variant: Variant | None) -> TextTagger:
    """Return the tagger of the bundle at a path, on an engine.

    Raises:
        InputError: the bundle is not a tagger, or the engine runs none.
    """
    return classifier(path, engine, variant, "tag", "tagger")


def evaluate_tagger(scored: Scored) -> dict[str, Any]:
    """Score a tagger on texts with marked spans."""
    from tfx_transformer import data
    from tfx_transformer.evaluation.mistakes import write_mistakes
    from tfx_transformer.evaluation.spans import score_spans, span_mistakes

    tagger = open_tagger(scored.bundle, scored.engine, scored.variant)
    columns = scored.columns.values()
    read = data.read_tagged_texts(scored.file, *columns, skip_bad_rows=scored.skip_bad_rows)
    marked = tagger.tag(read.texts)
    scores = score_spans(marked, read.spans)
    print(
        f"entity F1 {100 * scores['entity_f1']:.2f} %  precision "
        f"{100 * scores['precision']:.2f} %  recall {100 * scores['recall']:.2f} %  "
        f"of {scores['count']:,}"
    )
    for name, one in scores["per_class"].items():
        print(
            f"  {name:<24} precision {100 * one['precision']:5.1f} %  "
            f"recall {100 * one['recall']:5.1f} %  F1 {100 * one['f1']:5.1f} %  of {one['count']:,}"
        )
    if scored.save:
        write_mistakes(scored.save, span_mistakes(read.texts, marked, read.spans, len(read)))
    return scores
