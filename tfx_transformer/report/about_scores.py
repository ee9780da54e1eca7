"""The sections of a report on the conclusion and the scores of a model."""

from __future__ import annotations

import re
from typing import Any

from tfx_transformer.evaluation.intervals import proportion_interval
from tfx_transformer.evaluation.spans import NOTHING
from tfx_transformer.report.about_numbers import number_charts
from tfx_transformer.report.charts import line_chart
from tfx_transformer.report.html import Html, join, picture, table, tag, user_text
from tfx_transformer.report.measures import (
    TEACHER,
    baselines_of,
    best_baseline,
    change_text,
    first_measure,
    lower_is_better,
    scores_of,
    value_text,
)
from tfx_transformer.report.records import Records, number
from tfx_transformer.report.texts import Say, is_known

# Most labels whose confusion matrix is a table; for more it is a picture.
_MATRIX_LABELS = 16
_CLASSES_SHOWN = 60
# The space before a percent sign, where no line breaks.
_PERCENT = re.compile(r"(?<=\d) %")
# Scores that are the share of right examples.
_SHARES = ("accuracy", "exact_calls", "exact_match", "found", "preferred")


def conclusion_section(records: Records, say: Say, language: str) -> Html:
    """Return the conclusion in words: that of the run, or the score and the best baseline."""
    concluded = records.result.get("conclusion")
    sentences = concluded.get("sentences") if isinstance(concluded, dict) else None
    sentences = sentences.get(language) if isinstance(sentences, dict) else None
    if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
        sentences = _plain_sentences(records, say)
    sentences = [*(sentences or [say("no scores")]), *_teacher(records, say)]
    first, *more = (_PERCENT.sub("\u00a0%", sentence) for sentence in sentences)
    return join(tag("p", first, class_="lead"), *(tag("p", sentence) for sentence in more))


def _teacher(records: Records, say: Say) -> list[str]:
    """Return a sentence on the teacher of the model; [] if it had none."""
    source = records.settings.get("teacher")
    if not isinstance(source, str) or not source:
        return []
    measure, scores = first_measure(records), baselines_of(records).get(TEACHER, {})
    value = number(scores.get(measure)) if measure else None
    if measure is None or value is None:
        return [say("taught", teacher=source)]
    return [say("taught score", teacher=source, value=value_text(measure, value))]


def _plain_sentences(records: Records, say: Say) -> list[str]:
    measure = first_measure(records)
    if measure is None:
        return []
    score = scores_of(records)[measure]
    value = value_text(measure, score["value"])
    count = number(records.evaluation.get("examples")) or number(records.result.get("count"))
    if count:
        text = say("plain score", count=f"{count:,.0f}", measure=say(measure), value=value)
    else:
        text = say("plain text score", measure=say(measure), value=value)
    found = [text]
    low, high = number(score.get("low")), number(score.get("high"))
    if low is not None and high is not None:
        ends = {"low": value_text(measure, low), "high": value_text(measure, high)}
        found.append(say("plain interval", **ends))
    if best := best_baseline(records, measure):
        name, reached = best
        found.append(say("plain baseline", name=say(name), value=value_text(measure, reached)))
    return found


def scores_section(records: Records, say: Say) -> Html | None:
    """Return the scores, the baselines, the scores of each label, and the confusion matrix; None
    without scores."""
    if not scores_of(records):
        return None
    return join(
        _scores_table(records, say),
        _meanings(records, say),
        _comparison_table(records, say),
        tag(
            "div",
            _confusion(records, say),
            _classes_table(records, say),
            *_calibration(records, say),
            *number_charts(records, say),
            class_="figures",
        ),
    )


def _meanings(records: Records, say: Say) -> Html:
    """Return what each shown score means, folded in."""
    scores = scores_of(records)
    shown = [*scores]
    if any("low" in score for score in scores.values()):
        shown.append("interval column")
    if records.table("classes.csv"):
        shown += ["precision", "recall", "f1"]
    lines = [
        join(tag("dt", say(name)), tag("dd", say(f"means {name}")))
        for name in shown
        if is_known(f"means {name}")
    ]
    return tag("details", tag("summary", say("meanings")), tag("dl", *lines))


def _calibration(records: Records, say: Say) -> list[Html | None]:
    """Return the calibration of the probabilities before and after: figures, a reliability
    diagram, and the thresholds of the labels; [] if it was not measured."""
    known = records.result.get("calibration")
    if not isinstance(known, dict):
        content, caption = records.picture("calibration.png"), say("calibration picture")
        if not content:
            return []
        return [tag("figure", tag("figcaption", caption), picture(content, caption))]
    temperature = number(known.get("temperature")) or 1.0
    if temperature == 1:
        note = tag("p", say("calibration not needed"), class_="quiet")
        note = tag("div", note, _thresholds(records, say))
        return [note, _reliability(records, say, False)]
    sides = {side: known[side] for side in ("before", "after") if isinstance(known.get(side), dict)}
    rows = [
        [say(measure), *(value_text(measure, values.get(measure)) for values in sides.values())]
        for measure in ("calibration_error", "log_loss")
    ]
    caption = say("calibration caption", temperature=f"{temperature:g}")
    header = ["", *(say(f"{side} calibration") for side in sides)]
    figures = table(caption, header, rows)
    return [figures, _reliability(records, say, True), _thresholds(records, say)]


def _reliability(records: Records, say: Say, has_before: bool) -> Html | None:
    """Return the share of right answers at each confidence, as a chart."""
    known = records.result.get("reliability")
    if not isinstance(known, dict):
        return None
    lines: dict[str, list[tuple[float, float]]] = {}
    for side in ("before", "after") if has_before else ("after",):
        bins = known.get(side)
        points = [
            (number(one[0]), number(one[1]))
            for one in (bins if isinstance(bins, list) else [])
            if isinstance(one, list) and len(one) == 3
        ]
        lines[say(f"{side} calibration" if has_before else "this model")] = [
            (x, y) for x, y in points if x is not None and y is not None
        ]
    lines[say("perfect calibration")] = [(0, 0), (1, 1)]
    return line_chart(say("calibration picture"), say("confidence"), lines, whole=False)


def _thresholds(records: Records, say: Say) -> Html | None:
    """Return the thresholds of `predict --unsure auto`, or None."""
    known = records.result.get("thresholds")
    labels = known.get("labels") if isinstance(known, dict) else None
    if not isinstance(labels, dict):
        return None
    rows = [
        [user_text(str(name), 80), say("always open") if value >= 1 else f"{100 * value:.1f} %"]
        for name, value in list(labels.items())[:_CLASSES_SHOWN]
        if isinstance(value, int | float)
    ]
    counts = {n: number(known.get(n)) or 0 for n in ("count", "answered", "right")}
    shown = {name: f"{count:,.0f}" for name, count in counts.items()}
    made = table(say("thresholds caption"), [say("label"), say("threshold")], rows)
    return tag("div", made, tag("p", say("thresholds note", **shown), class_="quiet"))


def _scores_table(records: Records, say: Say) -> Html:
    baselines = baselines_of(records)
    header = [say("score"), say("this model"), say("interval column"), *map(say, baselines)]
    rows = []
    count = number(records.evaluation.get("examples"))
    first = first_measure(records)
    ordered = sorted(scores_of(records).items(), key=lambda item: item[0] != first)
    for measure, score in ordered:
        lower = tag("span", f" ({say('lower')})", class_="quiet")
        name = join(say(measure), lower if lower_is_better(measure) else None)
        ends = [number(score.get(end)) for end in ("low", "high")]
        interval = "–" if None in ends else _range(measure, *ends)
        others = [_baseline(measure, found.get(measure), count) for found in baselines.values()]
        value = tag("span", value_text(measure, score["value"]), class_="best")
        rows.append([name, value, interval, *others])
    caption = say("scores caption", count=f"{count:,.0f}") if count else say("scores caption text")
    return table(caption, header, rows)


def _comparison_table(records: Records, say: Say) -> Html | None:
    """Return the scores of the model and of its base on the same examples, or None."""
    concluded = records.result.get("conclusion")
    found = concluded.get("comparison") if isinstance(concluded, dict) else None
    if not isinstance(found, dict):
        return None
    measure = str(found.get("measure"))
    old, new = number(found.get("old")), number(found.get("new"))
    if old is None or new is None:
        return None
    rows = []
    for side, value in (("old", old), ("new", new)):
        interval = _ends(measure, found.get(f"{side}_interval"))
        name = user_text(str(found.get(f"{side}_name")), 80)
        label = join(f"{say(f'{side} model')}: ", name)
        rows.append([label, value_text(measure, value), interval])
    distance = change_text(measure, new, old, say)
    rows.append([say("difference"), distance, _ends(measure, found.get("difference"))])
    count = number(found.get("count")) or 0
    header = ["", say(measure), say("interval column")]
    return table(say("comparison caption", count=f"{count:,.0f}"), header, rows)


def _ends(measure: str, interval: Any) -> str:
    """Return the ends of an interval; "–" if it is not one."""
    if not isinstance(interval, list) or len(interval) != 2:
        return "–"
    ends = [number(end) for end in interval]
    return "–" if None in ends else _range(measure, *ends)


def _baseline(measure: str, value: Any, count: float | None) -> Any:
    """Return the score of a baseline; a share of examples also has its interval."""
    share = number(value)
    if share is None or not count or measure not in _SHARES or not 0 <= share <= 1:
        return value_text(measure, value)
    interval = proportion_interval(round(share * count), int(count))
    return join(
        f"{value_text(measure, share)} ", tag("div", _range(measure, *interval), class_="quiet")
    )


def _range(measure: str, low: float, high: float) -> str:
    return f"{value_text(measure, low)} – {value_text(measure, high)}"


def _classes_table(records: Records, say: Say) -> Html | None:
    classes = records.table("classes.csv")
    if not classes:
        return None
    kinds = ("precision", "recall", "f1", "count")
    rows = []
    for row in classes[:_CLASSES_SHOWN]:
        *shares, count = (number(row.get(kind)) for kind in kinds)
        cells = [value_text(kind, share) for kind, share in zip(kinds, shares, strict=False)]
        cells.append("–" if count is None else f"{count:,.0f}")
        rows.append([user_text(row.get("label", ""), 80), *cells])
    made = table(say("classes caption"), [say("label"), *map(say, kinds)], rows)
    more = len(classes) - _CLASSES_SHOWN
    note = tag("p", say("more labels", count=more), class_="quiet") if more > 0 else None
    return tag("div", made, note)


def _confusion(records: Records, say: Say) -> Html | None:
    confusion = records.evaluation.get("confusion")
    names, counts = _matrix(confusion)
    if not names or len(names) > _MATRIX_LABELS:
        content = records.picture("confusion.png")
        if not content:
            return None
        caption = say("confusion picture", count=len(names) or "")
        return tag("figure", tag("figcaption", caption), picture(content, caption))
    shown = [user_text(name, 40) for name in names]
    rows = [
        [shown[i], *(_cell(count, i == j, sum(row)) for j, count in enumerate(row))]
        for i, row in enumerate(counts)
    ]
    caption = say("confusion of spans" if names[-1] == NOTHING else "confusion caption")
    return _table_of_cells(caption, [say("confusion corner"), *shown], rows)


def _matrix(confusion: Any) -> tuple[list[str], list[list[int]]]:
    """Return the labels and counts of a record; ([], []) if it is something else."""
    if not isinstance(confusion, dict):
        return [], []
    names, counts = confusion.get("labels"), confusion.get("counts")
    good = isinstance(names, list) and isinstance(counts, list) and len(names) == len(counts)
    if not good or not all(isinstance(row, list) and len(row) == len(names) for row in counts):
        return [], []
    if not all(isinstance(count, int) and count >= 0 for row in counts for count in row):
        return [], []
    return list(map(str, names)), counts


def _cell(count: int, is_right: bool, whole: int) -> tuple[str, str | None]:
    """Return the text and the class of a cell: the larger its share of the row, the darker."""
    if not count:
        return "0" if is_right else "", None
    share = count / whole
    limits = (0.5, 0.8) if is_right else (0.1, 0.25)
    return f"{count:,}", f"{'r' if is_right else 'w'}{1 + sum(share >= limit for limit in limits)}"


def _table_of_cells(caption: str, header: list[Any], rows: list[list[Any]]) -> Html:
    head = tag("tr", *(tag("th", cell, scope="col") for cell in header))
    lines = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(tag("td", text, class_=kind) for text, kind in cells),
        )
        for name, *cells in rows
    ]
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", *lines),
        class_="confusion",
    )
    return tag("div", made, class_="scroll", role="region", tabindex="0", aria_label=caption)
