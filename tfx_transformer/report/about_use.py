"""The sections of a report on the files of the model, its settings, and its use."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from tfx_transformer.evaluation.rounding import Choice
from tfx_transformer.report.html import Html, join, picture, table, tag, user_text
from tfx_transformer.report.measures import change_text, first_measure, value_text
from tfx_transformer.report.records import Records, number
from tfx_transformer.report.texts import Say


class Use(NamedTuple):
    """The use of a model.

    Attributes:
        verb: verb of the command that answers a text; "" if only tables are answered.
        call: the line of Python, with the field {text}.
        needs: packages next to LiteRT and NumPy.
        reads_columns: True if a row of several texts is one input.
    """

    verb: str
    call: str
    needs: str = "tiktoken"
    reads_columns: bool = False


# The use of a model by its task.
_USES = {
    "seq2seq": Use("generate", "model.generate({text})"),
    "causal": Use("generate", "model.generate({text})", "tiktoken jinja2"),
    "classification": Use("classify", "model.classify({text})", reads_columns=True),
    "embedding": Use("embed", "model.embed({text})"),
    "regression": Use("", "model.predict({text})", reads_columns=True),
    "tagging": Use("tag", "model.tag({text})"),
}


def attention_figure(records: Records, say: Say) -> Html | None:
    """Return the picture of the attention with a note on its meaning, or None."""
    content = records.picture("attention.png")
    if not content:
        return None
    caption = say("attention picture")
    figure = tag("figure", tag("figcaption", caption), picture(content, caption))
    note = tag("p", say("attention note"), class_="quiet")
    return join(tag("div", figure, class_="figures"), note)


def exports_section(records: Records, say: Say, language: str) -> Html | None:
    """Return the bytes, milliseconds and score of each file, and how 4-bit weights were rounded;
    None if nothing was exported."""
    rows = records.rows("exports.json")
    if not rows:
        return None
    measure = _measure(rows, first_measure(records))
    header = [say("file"), say("size"), say("milliseconds")]
    if measure:
        header += [say(measure), say("change")]
    header.append(say("agreement"))
    trained = rows[0].get("scores")
    before = number(trained.get(measure)) if isinstance(trained, dict) else None
    lines = [_export_row(row, measure, before, say) for row in rows]
    count = max((number(row.get("examples")) or 0 for row in rows), default=0)
    caption = say("exports caption untimed")
    if count:
        caption = say("exports caption", count=f"{count:,.0f}")
    removed = [
        say("removed", reason=f"{row.get('name')}: {row.get('summary')}")
        for row in rows
        if row.get("removed")
    ]
    rounded = [found for row in rows if (found := Choice.from_dict(row.get("rounded")))]
    processor = records.run.get("processor")
    return join(
        table(caption, header, lines),
        *(tag("p", found.sentence(language)) for found in rounded),
        *(tag("p", reason, class_="bad") for reason in removed),
        tag("p", say("processor", processor=processor), class_="quiet") if processor else None,
    )


def _measure(rows: list[dict[str, Any]], first: str | None) -> str | None:
    """Return the score to show for each file: the model's main score, if it was measured."""
    names = [name for row in rows if isinstance(row.get("scores"), dict) for name in row["scores"]]
    return first if first in names else next(iter(names), None)


def _export_row(row: dict[str, Any], measure: str | None, before: float | None, say: Say) -> list:
    name, file = str(row.get("name", "")), str(row.get("file", ""))
    title = say("trained model") if name == "Keras" else name
    size, speed = number(row.get("bytes")), number(row.get("milliseconds"))
    cells: list[Any] = [
        join(title, tag("div", file, class_="quiet")),
        "–" if size is None else megabytes(size),
        "–" if speed is None else f"{speed:,.1f}" if speed >= 1 else f"{speed:.2f}",
    ]
    if measure:
        scores = row.get("scores")
        score = number(scores.get(measure)) if isinstance(scores, dict) else None
        is_other = score is not None and before is not None and name != "Keras"
        cells += [
            value_text(measure, score),
            _change(row, measure, score, before, say) if is_other else "–",
        ]
    return [*cells, _agreement(row, say)]


def _agreement(row: dict[str, Any], say: Say) -> str:
    """Return how near the answers of a file are to the model's; "–" if they were not compared."""
    if (largest := number(row.get("largest_difference"))) is not None:
        return say("apart", number=f"{largest:g}")
    if (smallest := number(row.get("smallest_cosine"))) is not None:
        return say("near", number=f"{smallest:g}")
    part, whole = number(row.get("identical")), number(row.get("of"))
    if part is None or whole is None:
        return "–"
    return say("equal", part=f"{part:,.0f}", whole=f"{whole:,.0f}")


def _change(row: dict[str, Any], measure: str, score: float, before: float, say: Say) -> str | Html:
    """Return the change of a file's score; of a quantized file with its 95 % interval, if that is
    known for the same score."""
    shown, found = change_text(measure, score, before, say), row.get("change")
    ends = found.get("difference") if isinstance(found, dict) else None
    if not isinstance(ends, list) or found.get("measure") != measure:
        return shown
    low, high = ([*map(number, ends), None, None])[:2]
    if low is None or high is None:
        return shown
    texts = {name: change_text(measure, x, 0.0, say) for name, x in (("low", low), ("high", high))}
    return join(shown, tag("div", say("change interval", **texts), class_="quiet"))


def megabytes(size: float) -> str:
    """Return a size such as "11.4 MB"."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def settings_section(records: Records, say: Say) -> Html | None:
    """Return the command that repeats the run, and all settings; None if they are unknown."""
    if not records.settings:
        return None
    command = records.run.get("command")
    rows = [
        [tag("code", "--" + name.replace("_", "-")), _setting(value, say)]
        for name, value in records.settings.items()
    ]
    half = -(-len(rows) // 2)
    header = [say("setting"), say("value")]
    halves = {"settings caption": rows[:half], "further settings": rows[half:]}
    parts = [
        table(say(caption), header, part, False, "settings")
        for caption, part in halves.items()
        if part
    ]
    return join(
        join(tag("p", say("replay")), code(str(command))) if command else None,
        tag("div", *parts, class_="figures"),
    )


def _setting(value: Any, say: Say) -> Any:
    if value is None:
        return tag("span", say("default"), class_="quiet")
    if value == "":
        return tag("span", say("none"), class_="quiet")
    if isinstance(value, bool):
        return say("yes" if value else "no")
    return user_text(str(value), 300)


def use_section(records: Records, say: Say) -> Html:
    """Return the commands that run the model: in the shell, in Python, on another machine."""
    path, task = records.run.get("bundle"), records.run.get("task")
    if not isinstance(path, str):
        return tag("p", say("no bundle"))
    if task not in _USES:
        recipe = "tfx-transformer run text_classification --csv FILE.csv --base "
        return join(tag("p", say("base")), code(recipe + shlex.quote(path)))
    use = _USES[task]
    is_image = records.run.get("recipe") == "image_classification" or bool(
        number(records.settings.get("image_size"))
    )
    example = records.settings.get("example")
    text = "photo.jpg" if is_image else say("example text")
    if isinstance(example, str) and example:
        text = example
    columns = str(records.settings.get("text", "")).count(",") * use.reads_columns
    typed = shlex.join([text] + [""] * columns)  # a row of several texts
    argument = repr([(text, *[""] * columns)]) if columns else repr(text)
    quoted = shlex.quote(path)
    shell = f"tfx-transformer {use.verb} {quoted} {typed}"
    if not use.verb:
        shell = f"tfx-transformer predict {quoted} table.csv --save out.csv"
    python = "\n".join(
        [
            "from tfx_transformer import runtime",
            "",
            f"model = runtime.load({path!r})",
            f"print({use.call.format(text=argument)})",
        ]
    )
    needs = "pillow" if is_image else use.needs
    away = (
        f"pip install ai-edge-litert numpy {needs}\npython {shlex.quote(path + '/run.pyz')} {typed}"
    )
    return join(
        tag("h3", say("shell")),
        code(shell),
        tag("h3", say("python")),
        code(python),
        tag("h3", say("elsewhere")),
        code(away),
    )


def code(text: str) -> Html:
    """Return lines to copy."""
    return tag("pre", tag("code", text), tabindex="0")
