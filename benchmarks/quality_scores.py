"""The scores of a trained bundle on test rows, next to a linear model on the same rows."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import commands
from benchmarks.figures import Figure

VARIANTS = ("float32", "int8")
_SIDE = 32  # pixels, as the recipe's own comparison


def scores(
    figure: Figure, settings: dict[str, Any], bundle: str, training: Sequence[str]
) -> dict[str, Any]:
    """The scores of a bundle by its TFLite files, and its size.

    Args:
        figure: what was trained.
        settings: `data`, the folder of the data, and `work`, that of the models.
        bundle: folder of the bundle.
        training: flags of its training with real paths. A linear model is trained on the same
            rows to compare a classifier with.

    Returns: score; its interval of 95 % if there is one; int8, the score of that file; minutes of
        training; megabytes of both files. Of classifiers also macro_f1, baseline, baseline_f1,
        rows, and difference: that of the scores in points, with its paired interval. Of a
        classifier with a teacher also parameters (count), and teacher: the score of the teacher and
        the difference to it, with its paired interval.
    """
    measure = {
        "accuracy": functools.partial(_right, training=training),
        "BLEU": _bleu,
        "calls": functools.partial(_exact, share="exact_calls"),
        "exact": _exact,
        "loss": _loss,
        "preferred": _preferred,
        "Spearman": _spearman,
    }[figure.score]
    sizes = [
        commands.megabytes(bundle, "litert", variant).get("file, MB", 0.0) for variant in VARIANTS
    ]
    return measure(figure, settings, bundle) | {
        "minutes": commands.minutes(bundle),
        "megabytes": sizes,
    }


def _right(
    figure: Figure, settings: dict[str, Any], bundle: str, training: Sequence[str]
) -> dict[str, Any]:
    """The share of labels that are right, in percent."""
    from tfx_transformer import runtime
    from tfx_transformer.bundle import read_config
    from tfx_transformer.evaluation.baselines import predicted_scores
    from tfx_transformer.evaluation.intervals import proportion_interval

    train, test = _examples(figure, settings, training)
    names = sorted({label for (label,) in (*train.labels, *test.labels)})
    ids, truth = (
        np.array([names.index(label) for (label,) in rows.labels]) for rows in (train, test)
    )
    inputs = _inputs(test)
    predicted = {}
    for variant in VARIANTS:
        answers = runtime.load(bundle, variant).classify(inputs)
        predicted[variant] = np.array([names.index(answer.label) for answer in answers])
    ours = predicted["float32"] == truth
    linear = _linear(figure)(_inputs(train), ids, inputs)
    theirs = linear == truth
    interval = proportion_interval(int(ours.sum()), len(ours))
    found = predicted_scores(predicted["float32"], truth, len(names))
    beside = predicted_scores(linear, truth, len(names))
    found_with_teacher = {}
    if "--teacher" in training:
        teacher = training[training.index("--teacher") + 1]
        answers = runtime.load(teacher, "float32").classify(inputs)
        its = np.array([names.index(answer.label) for answer in answers]) == truth
        found_with_teacher = {
            "teacher": [_percent(float(its.mean())), *_difference(ours, its)],
            "parameters": read_config(bundle)["parameters"],
        }
    return {
        "score": _percent(found["accuracy"]),
        "interval": [_percent(end) for end in interval],
        "macro_f1": _percent(found["macro_f1"]),
        "int8": _percent(float((predicted["int8"] == truth).mean())),
        "baseline": _percent(beside["accuracy"]),
        "baseline_f1": _percent(beside["macro_f1"]),
        "difference": _difference(ours, theirs),
        "rows": [len(train), len(test)],
    } | found_with_teacher


def _difference(ours: np.ndarray, theirs: np.ndarray) -> list[float]:
    """The difference of two shares of right answers in points, and the ends of its interval."""
    from tfx_transformer.evaluation.intervals import paired_difference

    difference = float(ours.mean() - theirs.mean())
    return [_percent(value) for value in (difference, *paired_difference(ours, theirs))]


def _examples(figure: Figure, settings: dict[str, Any], training: Sequence[str]) -> tuple[Any, Any]:
    """The rows of training and of test."""
    from tfx_transformer import data

    is_image = figure.recipe == "image_classification"
    flag, read = "--csv", data.read_labelled_texts
    default = "datasets/labelled_text.csv"
    if is_image:
        flag, read, default = "--images", data.read_labelled_images, "datasets/images/train"
    given = dict(zip(training[::2], training[1::2], strict=True))
    return read(str(commands.ROOT / given.get(flag, default))), read(file_of_test(figure, settings))


def _inputs(rows: Any) -> list[str]:
    """The texts or the image files of labelled rows."""
    return list(rows.files) if hasattr(rows, "files") else [text for (text,) in rows.texts]


def _linear(figure: Figure) -> Any:
    """The baseline of classifiers: (inputs, ids, test inputs) -> predicted ids."""
    from tfx_transformer.data.labelled_image import decode_images
    from tfx_transformer.evaluation.baselines import edge_color_labels, tfidf_labels

    if figure.recipe != "image_classification":
        return tfidf_labels
    decode = functools.partial(decode_images, image_size=_SIDE)
    return lambda train, ids, test: edge_color_labels(decode(train), ids, decode(test))


def _bleu(figure: Figure, settings: dict[str, Any], bundle: str) -> dict[str, Any]:
    from tfx_transformer.evaluation.intervals import bleu_interval

    tokenize = figure.evaluate[figure.evaluate.index("--tokenize") + 1]
    test = file_of_test(figure, settings)
    found, answers = {}, Path(f"{bundle}-answers.csv")
    for variant in VARIANTS:
        flags = [*commands.engine_flags("litert", variant), *figure.evaluate]
        saved = ("--save", str(answers)) if variant == "float32" else ()
        scored = commands.tool(settings, "evaluate", bundle, test, *flags, *saved)
        found[variant] = round(scored["bleu"], 2)
    with answers.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    written, references = ([row[name] for row in rows] for name in ("answer", "reference"))
    low, high = bleu_interval(written, references, tokenize) or (None, None)
    return {"score": found["float32"], "interval": [low, high], "int8": found["int8"]}


def _exact(
    figure: Figure, settings: dict[str, Any], bundle: str, share: str = "exact_match"
) -> dict[str, Any]:
    """The share of exact answers, in percent; `share` is its name in the JSON of `evaluate`."""
    from tfx_transformer.evaluation.intervals import proportion_interval

    found = {}
    for variant in VARIANTS:
        flags = [*commands.engine_flags("litert", variant), *figure.evaluate]
        test = file_of_test(figure, settings)
        found[variant] = commands.tool(settings, "evaluate", bundle, test, *flags)
    exact, count = found["float32"][share], found["float32"]["count"]
    return {
        "score": _percent(exact),
        "interval": [_percent(end) for end in proportion_interval(round(exact * count), count)],
        "int8": _percent(found["int8"][share]),
    }


def _preferred(figure: Figure, settings: dict[str, Any], bundle: str) -> dict[str, Any]:
    """The share of held-out pairs whose chosen answer is the likelier one, as the run counted it:
    only Keras gives the probability of a text."""
    record = Path(settings["work"], "runs", Path(bundle).name, "evaluation.json")
    found = json.loads(record.read_text(encoding="utf-8"))
    preferred = found["scores"]["preferred"]
    [base] = found["baselines"].values()
    return {
        "score": _percent(preferred["value"]),
        "interval": [_percent(preferred[end]) for end in ("low", "high")],
        "before": _percent(base["preferred"]),
    }


def _spearman(figure: Figure, settings: dict[str, Any], bundle: str) -> dict[str, Any]:
    """The correlation, and that of TF-IDF with the frequencies of the test texts."""
    rows = ["--csv", file_of_test(figure, settings), *figure.evaluate]
    found = [
        commands.tool(settings, "similar", bundle, *rows, *commands.engine_flags("litert", variant))
        for variant in VARIANTS
    ]
    ours, int8 = (_percent(one["spearman"][Path(bundle).name]) for one in found)
    return {"score": ours, "int8": int8, "baseline": _percent(found[0]["spearman"]["TF-IDF"])}


def _loss(figure: Figure, settings: dict[str, Any], bundle: str) -> dict[str, Any]:
    test = file_of_test(figure, settings)
    found = commands.tool(settings, "evaluate", bundle, test, *figure.evaluate)
    kept = {"score": round(found["loss"], 4)}
    interval = found.get("intervals", {}).get("loss")
    return kept | ({"interval": interval} if interval else {})


def file_of_test(figure: Figure, settings: dict[str, Any]) -> str:
    """The path of the test rows: below the folder of the data, or in the repository."""
    [test] = commands.data(settings, [figure.test])
    return str(commands.ROOT / test)


def _percent(value: float) -> float:
    return round(100 * value, 2)
