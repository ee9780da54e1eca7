"""The part of evaluate that compares two bundles on the same rows: a row for each kind of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_transformer.cli.classifiers import classifier, read_labelled
from tfx_transformer.cli.engines import open_generator
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

if TYPE_CHECKING:
    from tfx_transformer.cli.scoring import Scored
    from tfx_transformer.evaluation.comparison import Comparison


def compare(scored: Scored, kind: str, against: Path) -> dict[str, Any]:
    """Print how a bundle scores against another one on the same rows, and return the figures.

    Args:
        scored: the bundle, and the rows.
        kind: of the rows, see `COLUMNS`.
        against: path of the other bundle.

    Raises:
        InputError: the other bundle has another task, or rows of this kind are not compared.
    """
    from tfx_transformer.bundle import read_config

    if kind not in _COMPARISONS:
        raise InputError(
            f"--against does not compare bundles on {kind}.\n  Evaluate each on the same file."
        )
    if scored.save:
        raise InputError("--save writes the answers of one bundle.\n  Drop it, or --against.")
    if _answers(read_config(against)) != _answers(scored.config):
        raise InputError(
            f"{against} gives other answers than {scored.bundle}.\n"
            "  Compare two bundles of one task."
        )
    names = {"old_name": against.name, "new_name": scored.bundle.name}
    if against.name == scored.bundle.name:
        names = {"old_name": str(against), "new_name": str(scored.bundle)}
    found = _COMPARISONS[kind](scored, against, names)
    for sentence in found.sentences():
        print("\n".join(wrapped(sentence, COLUMNS)))
    return {"comparison": found.to_dict()}


def _answers(config: dict[str, Any]) -> tuple[Any, ...]:
    """Return the kinds of input and answer of a bundle, to be compared."""
    architecture = config["architecture"]
    kinds = (bool(architecture.get(name)) for name in ("multi_label", "image_size"))
    return config["task"], bool(config.get("chat")), config.get("text_columns", 1), *kinds


def _compare_labels(scored: Scored, against: Path, names: dict[str, str]) -> Comparison:
    from tfx_transformer.evaluation.comparison import compare_labels
    from tfx_transformer.evaluation.labels import with_labels

    read = read_labelled(scored)
    models = [classifier(path, scored.engine, scored.variant) for path in (against, scored.bundle)]
    every = sorted({name for model in models for name in model.labels.names})
    known = set.intersection(*(set(model.labels.names) for model in models))
    kept = [index for index, labels in enumerate(read.labels) if set(labels) <= known]
    if not kept:
        raise InputError(
            f"{scored.file}: no row has a label that both bundles know.\n"
            f"  Both know: {', '.join(sorted(known)[:20]) or 'none'}."
        )
    if len(kept) < len(read):
        count = quantity(len(read) - len(kept), "row")
        print(f"{count} left out: one of the bundles does not know the label.")
        read = read.take(kept)
    several = models[0].labels.multi_label
    truth = read.targets(every, True) if several else read.targets(every)
    old, new = (
        with_labels(model.probabilities(read.inputs), model.labels.names, every) for model in models
    )
    is_image = bool(scored.config["architecture"].get("image_size"))
    return compare_labels(old, new, truth, several, unit="image" if is_image else "row", **names)


def _compare_pairs(scored: Scored, against: Path, names: dict[str, str]) -> Comparison:
    from tfx_transformer import data
    from tfx_transformer.evaluation.comparison import compare_texts

    read = data.read_pairs(scored.file, **scored.columns, skip_bad_rows=scored.skip_bad_rows)
    old, new = _written(scored, against, read.source)
    return compare_texts(old, new, list(read.target), scored.tokenize, **names)


def _compare_answers(scored: Scored, against: Path, names: dict[str, str]) -> Comparison:
    from tfx_transformer import data
    from tfx_transformer.evaluation.comparison import compare_means
    from tfx_transformer.evaluation.texts import answer_f1s

    columns = scored.columns.values()
    read = data.read_instructions(scored.file, *columns, skip_bad_rows=scored.skip_bad_rows)
    references = read.answers()
    old, new = _written(scored, against, read.prompts())
    return compare_means(
        "token_f1", answer_f1s(old, references), answer_f1s(new, references), **names
    )


def _written(scored: Scored, against: Path, prompts: Any) -> list[list[str]]:
    """Return the answers of the other bundle and of this one to prompts."""
    options = vars(scored.generation)
    return [
        open_generator(path, scored.engine, scored.variant).generate(
            prompts, truncate=True, **options
        )
        for path in (against, scored.bundle)
    ]


def _compare_numbers(scored: Scored, against: Path, names: dict[str, str]) -> Comparison:
    import numpy as np

    from tfx_transformer import data
    from tfx_transformer.cli.regressors import open_regressor
    from tfx_transformer.evaluation.comparison import compare_means

    columns = scored.columns.values()
    read = data.read_scored_texts(scored.file, *columns, skip_bad_rows=scored.skip_bad_rows)
    old, new = (
        open_regressor(path, scored.engine, scored.variant).predict(read.inputs)
        for path in (against, scored.bundle)
    )
    truth = np.asarray(read.numbers)
    return compare_means("mae", np.abs(old - truth), np.abs(new - truth), **names)


def _compare_spans(scored: Scored, against: Path, names: dict[str, str]) -> Comparison:
    from tfx_transformer import data
    from tfx_transformer.cli.taggers import open_tagger
    from tfx_transformer.evaluation.comparison import compare_scores
    from tfx_transformer.evaluation.spans import Counts, count_spans

    columns = scored.columns.values()
    read = data.read_tagged_texts(scored.file, *columns, skip_bad_rows=scored.skip_bad_rows)
    old, new = (
        count_spans(open_tagger(path, scored.engine, scored.variant).tag(read.texts), read.spans)
        for path in (against, scored.bundle)
    )
    return compare_scores("entity_f1", old, new, Counts.f1, len(read), **names)


# Kind of data -> (this bundle, the other one, their names) -> their comparison.
_COMPARISONS: dict[str, Callable[[Scored, Path, dict[str, str]], Comparison]] = {
    "pairs": _compare_pairs,
    "instructions": _compare_answers,
    "labels": _compare_labels,
    "images": _compare_labels,
    "numbers": _compare_numbers,
    "spans": _compare_spans,
}
