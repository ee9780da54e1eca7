"""The sections of a report on the data and on the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from tfx_transformer.report.charts import bar, line_chart
from tfx_transformer.report.html import Html, join, picture, table, tag, user_text
from tfx_transformer.report.measures import (
    first_measure,
    is_percentage,
    lower_is_better,
    value_text,
)
from tfx_transformer.report.records import Records, number
from tfx_transformer.report.texts import Say
from tfx_transformer.reprs import significant

_LABELS_SHOWN = 40
_EPOCHS_SHOWN = 100
# Parts of the data that have a name in the texts of a report.
_PARTS = ("training", "validation", "unlabelled", "rehearsed")
# Columns of the table of the data, if a summary has them.
_COUNTS = ("documents", "bytes", "tokens", "spans", "unmarked", "inexact", "windowed", "truncated",
           "duplicates", "contradictions", "known", "overlap")  # fmt: skip


def data_section(records: Records, say: Say) -> Html | None:
    """Return the parts, lengths, labels and repeated examples of the data; None if unknown."""
    parts = records.rows("data.json")
    if not parts:
        return None
    lengths = records.picture("lengths.png")
    figure = say("lengths picture")
    return join(
        _parts_table(parts, say),
        *_remarks(parts, say),
        tag(
            "div",
            _labels_table(parts, say),
            _numbers_table(parts, say),
            tag("figure", tag("figcaption", figure), picture(lengths, figure)) if lengths else None,
            class_="figures",
        ),
    )


def _parts_table(parts: list[dict[str, Any]], say: Say) -> Html:
    kinds = [kind for kind in _COUNTS if any(kind in part for part in parts)]
    if "windowed" in kinds:
        kinds.remove("truncated")  # no text is cut
    if "images" in parts[0]:
        kinds = [kind for kind in kinds if kind != "tokens"]  # images have none
    has_bad = any(number(part.get("bad_rows")) for part in parts)
    kinds += ["bad_rows"] * has_bad
    whole = "images" if "images" in parts[0] else "blocks" if "blocks" in parts[0] else "rows"
    columns = sorted({key for part in parts for key in part if key.endswith("_tokens")})
    columns = [c for c in columns if isinstance(parts[0].get(c), list)]
    numbers = {"contradictions": "contradicting numbers"} if "histogram" in parts[0] else {}
    header = [say("part"), say(whole), *(say(numbers.get(kind, kind)) for kind in kinds)]
    for column in columns:
        side = "" if column == "row_tokens" else column.removesuffix("_tokens")
        header += [f"{side} {say(kind)}".strip() for kind in ("half", "most", "longest")]
    rows = []
    for part in parts:
        name = str(part.get("name", ""))
        title = say(f"{name} part") if name in _PARTS else name
        file = tag("div", user_text(PurePath(str(part.get("path", ""))).name), class_="quiet")
        cells = [_count(part.get(kind)) for kind in (whole, *kinds)]
        for kind in {"overlap", "known"} & set(kinds) if name == "training" else ():
            cells[1 + kinds.index(kind)] = "–"
        for column in columns:
            found = part.get(column)
            four = found if isinstance(found, list) and len(found) == 4 else [None] * 4
            cells += [_count(four[i]) for i in (0, 1, 3)]
        rows.append([join(title, file), *cells])
    made = table(say("data caption"), header, rows)
    note = tag("p", say("length unit"), class_="quiet") if columns else None
    return join(made, note)


def _remarks(parts: list[dict[str, Any]], say: Say) -> list[Html]:
    found = []
    for part in parts:
        whole = number(part.get("rows", part.get("images")))
        overlap = number(part.get("overlap"))
        if part.get("name") == "training" or overlap is None or not whole:
            continue
        if overlap:
            text = say("overlap warning", count=f"{overlap:,.0f}", whole=f"{whole:,.0f}")
            found.append(tag("p", text, class_="bad"))
        else:
            found.append(tag("p", say("no overlap")))
    if any(number(part.get("bad_rows")) for part in parts):
        found.append(tag("p", say("bad rows kept", file="bad_rows.csv"), class_="quiet"))
    return found


def _labels_table(parts: list[dict[str, Any]], say: Say) -> Html | None:
    counted = [part for part in parts if isinstance(part.get("labels"), dict)]
    if not counted:
        return None
    first: Mapping[str, Any] = counted[0]["labels"]
    ordered = sorted(first, key=lambda label: -(number(first[label]) or 0))
    most = max((number(count) or 0 for count in first.values()), default=0) or 1
    rows = []
    for label in ordered[:_LABELS_SHOWN]:
        count = number(first[label]) or 0
        cells = [_count(part["labels"].get(label)) for part in counted]
        rows.append([user_text(label, 80), bar(count / most, f"{count:,.0f}"), *cells])
    names = [say(f"{part.get('name')} part") for part in counted]
    made = table(say("labels caption"), [say("label"), say("count"), *names], rows)
    more = len(ordered) - _LABELS_SHOWN
    note = tag("p", say("more labels", count=more), class_="quiet") if more > 0 else None
    return tag("div", made, note)


def _numbers_table(parts: list[dict[str, Any]], say: Say) -> Html | None:
    """Return a histogram of the numbers of the training rows; None if they have none."""
    histogram = parts[0].get("histogram")
    if not isinstance(histogram, dict):
        return None
    counts, edges = histogram.get("counts"), histogram.get("edges")
    if not (isinstance(counts, list) and isinstance(edges, list)):
        return None
    found = [number(count) or 0 for count in counts]
    ends = [number(edge) or 0 for edge in edges]
    most = max(found, default=0) or 1
    rows = [
        [f"{significant(low)} – {significant(high)}", bar(count / most, f"{count:,.0f}"), count]
        for low, high, count in zip(ends, ends[1:], found, strict=False)
    ]
    shown = [[name, drawn, f"{count:,.0f}"] for name, drawn, count in rows]
    made = table(say("numbers caption"), [say("number"), say("share"), say("count")], shown)
    return tag("div", made)


def training_section(records: Records, say: Say) -> Html | None:
    """Return the curves of the training, its epochs and its previews; None if unknown."""
    metrics = records.table("metrics.csv")
    if not metrics:
        return None
    epochs = [number(row.get("epoch")) for row in metrics]
    kept = number(records.result.get("best_epoch"))
    mark = say("kept", epoch=f"{kept:.0f}") if kept is not None else ""

    def points(name: str) -> list[tuple[float, float]]:
        values = [number(row.get(name)) for row in metrics]
        pairs = zip(epochs, values, strict=True)
        return [(x, y) for x, y in pairs if x is not None and y is not None]

    losses = {
        say("training line"): points("loss"),
        say("validation line"): points("val_loss"),
    }
    charts = [line_chart(say("loss"), say("epoch"), losses, kept, mark)]
    judged = _curve_score(records, metrics)
    if judged:
        name, scored = say(judged), points(f"val_{judged}")
        if is_percentage(judged):
            name = say("in percent", score=name)
            scored = [(x, 100 * y) for x, y in scored]
        lower = f" ({say('lower')})" if lower_is_better(judged) else ""
        named = {name + lower: scored}
        charts.append(line_chart(say("score per epoch"), say("epoch"), named, kept, mark))
    figures = tag("div", *charts, class_="figures")
    concluded = records.result.get("conclusion")
    joined = isinstance(concluded, dict) and concluded.get("linear")
    note = tag("p", say("curves note"), class_="quiet") if joined else None
    return join(figures, note, _metrics_table(metrics, say), _previews(records, say))


def _curve_score(records: Records, metrics: list[dict[str, str]]) -> str | None:
    """Return the score whose curve is drawn: the one by which the epoch was selected, if known."""
    known = [column.removeprefix("val_") for column in metrics[0] if column.startswith("val_")]
    first = first_measure(records)
    for name in ("macro_f1", "entity_f1", "r2", "spearman", "found", first, "bits_per_byte"):
        if name in known:
            return name
    return next((n for n in ("perplexity", "token_accuracy", "accuracy") if n in known), None)


def _metrics_table(metrics: list[dict[str, str]], say: Say) -> Html:
    names = [name for name in metrics[0] if name not in ("epoch", "learning_rate")]
    header: list[Any] = [say("epoch")]
    for name in names:
        plain = name.removeprefix("val_")
        part = say("validation line" if name.startswith("val_") else "training line")
        text = say("loss column") if plain == "loss" else say(plain)
        header.append(f"{text} ({part})")
    step = -(-len(metrics) // _EPOCHS_SHOWN)
    some = [row for i, row in enumerate(metrics) if i % step == 0 or i == len(metrics) - 1]
    rows = [
        [
            row.get("epoch", ""),
            *(_metric(name.removeprefix("val_"), row.get(name)) for name in names),
        ]
        for row in some
    ]
    made = table(say("metrics caption"), header, rows)
    return tag("details", tag("summary", say("metrics caption")), made)


def _metric(name: str, value: Any) -> str:
    found = number(value)
    return "–" if found is None else f"{found:.4f}" if name == "loss" else value_text(name, found)


def _previews(records: Records, say: Say) -> Html | None:
    rows = records.table("previews.csv")
    if not rows:
        return None
    source = rows[0].get("source", "")
    same = [row for row in rows if row.get("source", "") == source]
    step = -(-len(same) // 12)
    some = [row for i, row in enumerate(same) if i % step == 0 or i == len(same) - 1]
    lines = [
        [row.get("epoch", ""), user_text(row.get("written") or say("empty"), 240)] for row in some
    ]
    expected = next((row["reference"] for row in same if row.get("reference")), "")
    frames = [say("previews source", source="\0").partition("\0")]
    if expected:
        frames.append(say("previews expected", expected="\0").partition("\0"))
    texts = [source, expected]
    return join(
        tag("h3", say("previews caption")),
        *(
            tag("p", before, user_text(text, 300), after)
            for (before, _, after), text in zip(frames, texts, strict=False)
        ),
        table(say("previews caption"), [say("epoch"), say("written")], lines, numbers=False),
    )


def _count(value: Any) -> str:
    found = number(value)
    return "–" if found is None else f"{found:,.0f}"
