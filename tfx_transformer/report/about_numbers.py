"""The parts of a report on a model that predicts numbers: charts, and the largest errors."""

from __future__ import annotations

from typing import Any

from tfx_transformer.report.about_examples import (
    LEVELS,
    MISTAKES,
    WORDS_NAMED,
    has_numbers,
    is_explained,
    marked_text,
)
from tfx_transformer.report.charts import scatter_chart
from tfx_transformer.report.html import Html, join, tag, user_text
from tfx_transformer.report.records import Records, number
from tfx_transformer.report.texts import Say
from tfx_transformer.reprs import significant

# Most points of a chart: of more examples, every second one is drawn, or every third, and so on.
_POINTS = 1_000


def number_charts(records: Records, say: Say) -> list[Html]:
    """Return charts of predicted against true numbers, and of the errors; [] for other models."""
    pairs = [
        (truth, predicted)
        for row in records.table("predictions.csv")
        if (truth := number(row.get("target"))) is not None
        and (predicted := number(row.get("prediction"))) is not None
    ]
    if not pairs:
        return []
    shown = pairs[:: -(-len(pairs) // _POINTS)]
    errors = [(predicted, predicted - truth) for truth, predicted in shown]
    return [
        scatter_chart(say("scatter"), say("true number"), shown, say("equal line"), lambda x: x),
        scatter_chart(
            say("residuals"), say("predicted number"), errors, say("zero line"), lambda x: 0.0
        ),
    ]


def errors_section(records: Records, say: Say) -> Html | None:
    """Return the largest errors with the words that mattered; None if the model does not predict
    numbers."""
    if not has_numbers(records):
        return None
    rows = records.table("mistakes.csv")
    explained = [row for row in records.rows("explanations.json") if is_explained(row)]
    notes = [tag("p", say("errors note"))]
    if explained:
        notes.append(tag("p", say("number words note")))
        cards = [_explained_card(row, say) for row in explained[:MISTAKES]]
    else:
        cards = [
            tag("li", _verdict(row, say), tag("p", user_text(row.get("input", ""))))
            for row in rows[:MISTAKES]
        ]
    made = tag("ul", *cards, class_="cards")
    return join(*notes, made, tag("p", say("all mistakes", file="mistakes.csv"), class_="quiet"))


def _explained_card(row: dict[str, Any], say: Say) -> Html:
    unit = number(row.get("deviation")) or 1.0

    def change(weight: float) -> str:
        return _with_sign(unit * weight)

    texts = [
        tag("p", marked_text(text, [p for p in row["pieces"] if p.get("column") == column], change))
        for column, text in enumerate(row["texts"])
        if text.strip() or len(row["texts"]) == 1
    ]
    weighed = [(piece, number(piece.get("weight")) or 0.0) for piece in row["pieces"]]
    strongest = sorted(weighed, key=lambda pair: -abs(pair[1]))[:WORDS_NAMED]
    named = [
        join(
            tag("strong", user_text(str(piece.get("text", "")), 40)),
            f" ({say('without number', change=change(-weight))})",
        )
        for piece, weight in strongest
        if abs(weight) >= LEVELS[0]
    ]
    words = None
    if named:
        listed = [join(", " if i else "", name) for i, name in enumerate(named)]
        words = tag("p", f"{say('mattered')}: ", *listed, class_="quiet")
    return tag("li", _verdict(row, say), *texts, words)


def _verdict(row: dict[str, Any], say: Say) -> Html:
    predicted, truth, error = (number(row.get(n)) for n in ("prediction", "target", "error"))
    away = None if error is None else tag("span", _with_sign(error), class_="sure")
    return tag(
        "dl",
        tag("dt", say("predicted")),
        tag(
            "dd",
            away,
            tag("strong", "–" if predicted is None else significant(predicted, 4), class_="bad"),
        ),
        tag("dt", say("true number")),
        tag("dd", "–" if truth is None else f"{truth:,.7g}"),
    )


def _with_sign(value: float) -> str:
    return ("+" * (value > 0) + significant(value)).replace("-", "−")
