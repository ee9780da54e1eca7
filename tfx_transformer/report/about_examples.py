"""The sections of a report that show rows of the data: mistakes and samples."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.report.html import Html, join, picture, table, tag, user_text
from tfx_transformer.report.records import Records, number
from tfx_transformer.report.texts import Say

MISTAKES = 12
_IMAGE_MISTAKES = 24
_SAMPLES = 12
# Width and height of a thumbnail in pixels: twice its place on the page, at most.
_THUMBNAIL = 240
# A word is coloured from these changes of the probability on, the larger the stronger.
LEVELS = (0.03, 0.1, 0.3)
WORDS_NAMED = 3
# Number of label colours; further labels share them, and each span shows its label's name.
_COLORS = 8


def mistakes_section(records: Records, say: Say) -> Html | None:
    """Return the most confident mistakes, with words or thumbnails; None for a run without a list
    of mistakes, or one that predicts numbers."""
    if not (records.folder / "mistakes.csv").is_file() or has_numbers(records):
        return None
    mistakes = records.table("mistakes.csv")
    if not mistakes:
        return tag("p", say("no mistakes"))
    explained = [row for row in records.rows("explanations.json") if is_explained(row)]
    notes = [tag("p", say("mistakes note"))]
    if spans := [row for row in records.rows("spans.json") if _has_spans(row)]:
        notes.append(tag("p", say("spans note")))
        colors = _colors(spans)
        made = tag("ul", *(_span_card(row, colors, say) for row in spans), class_="cards")
    elif explained:
        notes.append(tag("p", say("words note")))
        cards = [_text_card(row, say) for row in explained[:MISTAKES]]
        made = tag("ul", *cards, class_="cards")
    elif (records.folder / "lengths.png").is_file():  # texts, without explanations
        made = tag("ul", *(_plain_card(row, say) for row in mistakes[:MISTAKES]), class_="cards")
    else:
        cards = [_image_card(row, say) for row in mistakes[:_IMAGE_MISTAKES]]
        made = tag("ul", *cards, class_="cards small")
    return join(*notes, made, tag("p", say("all mistakes", file="mistakes.csv"), class_="quiet"))


def has_numbers(records: Records) -> bool:
    """Return True if the model of a run predicts numbers; see `about_numbers`."""
    return (records.folder / "predictions.csv").is_file()


def is_explained(row: dict[str, Any]) -> bool:
    """Return True if a row of explanations.json has texts and pieces."""
    texts, pieces = row.get("texts"), row.get("pieces")
    return (
        isinstance(texts, list)
        and all(isinstance(text, str) for text in texts)
        and isinstance(pieces, list)
        and all(isinstance(piece, dict) for piece in pieces)
    )


def _text_card(row: dict[str, Any], say: Say) -> Html:
    texts = [
        tag("p", marked_text(text, [p for p in row["pieces"] if p.get("column") == column]))
        for column, text in enumerate(row["texts"])
        if text.strip() or len(row["texts"]) == 1
    ]
    strongest = sorted(row["pieces"], key=lambda piece: -(number(piece.get("weight")) or 0))
    named = [
        join(
            tag("strong", user_text(str(piece.get("text", "")), 40)),
            f" ({say('without', points=_points(-(number(piece.get('weight')) or 0)))})",
        )
        for piece in strongest[:WORDS_NAMED]
        if (number(piece.get("weight")) or 0) >= LEVELS[0]
    ]
    words = None
    if named:
        listed = [join(say("comma") if i else "", name) for i, name in enumerate(named)]
        words = tag("p", f"{say('mattered')}: ", *listed, class_="quiet")
    return tag("li", _verdict(row, say), *texts, words)


def _has_spans(row: dict[str, Any]) -> bool:
    return isinstance(row.get("input"), str) and all(
        isinstance(row.get(side), list) and all(isinstance(span, dict) for span in row[side])
        for side in ("true", "marked")
    )


def _colors(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return the colour number of each label."""
    spans = (span for row in rows for side in ("true", "marked") for span in row[side])
    labels = sorted({str(span.get("label", "")) for span in spans})
    return {label: index % _COLORS for index, label in enumerate(labels)}


def _span_card(row: dict[str, Any], colors: dict[str, int], say: Say) -> Html:
    """Return a text twice: with its true spans, and with those of the model."""
    probability = number(row.get("probability"))
    sure = None
    if probability:
        sure = tag("span", f"{100 * probability:.1f} %", class_="sure")
    return tag(
        "li",
        tag(
            "dl",
            tag("dt", say("in data")),
            tag("dd", _with_spans(row["input"], row["true"], colors)),
            tag("dt", say("by model")),
            tag("dd", sure, _with_spans(row["input"], row["marked"], colors)),
        ),
    )


def _with_spans(text: str, spans: list[dict[str, Any]], colors: dict[str, int]) -> Html:
    """Return a text with its spans marked, each followed by its label."""
    parts: list[Any] = []
    place = 0
    for span in spans:
        start, end, label = span.get("start"), span.get("end"), str(span.get("label", ""))
        fits = isinstance(start, int) and isinstance(end, int)
        if not fits or not place <= start < end <= len(text):
            continue
        kind = f"s{colors.get(label, 0)}" + ("" if span.get("right") else " wrong")
        parts.append(text[place:start])
        parts.append(tag("mark", text[start:end], tag("small", label), class_=kind))
        place = end
    parts.append(text[place:])
    return _within(text, join(*parts))


def _within(text: str, content: Html) -> Html:
    """Return the marked parts of a user's text in the language of the whole text."""
    opened = user_text(text, len(text) + 1).partition(">")[0] + ">"
    return Html(f"{opened}{content}</bdi>")


def _plain_card(row: dict[str, Any], say: Say) -> Html:
    return tag("li", _verdict(row, say), tag("p", user_text(str(row.get("input", "")))))


def _verdict(row: dict[str, Any], say: Say) -> Html:
    probability = number(row.get("probability"))
    sure = None
    if probability is not None:
        sure = tag("span", f"{100 * probability:.1f} %", class_="sure")
    return tag(
        "dl",
        tag("dt", say("predicted")),
        tag("dd", sure, tag("strong", user_text(str(row.get("predicted", "")), 80), class_="bad")),
        tag("dt", say("expected label")),
        tag("dd", user_text(str(row.get("label", "")), 80)),
    )


def marked_text(
    text: str, pieces: list[dict[str, Any]], shown: Callable[[float], str] | None = None
) -> Html:
    """Return a text with its influential pieces marked.

    Args:
        text: text of the example.
        pieces: its pieces; see `evaluation.occlusion`.
        shown: weight of a piece -> its effect, in words; None: the weight is a probability.
    """
    shown = shown or _points
    parts: list[Any] = []
    end = 0
    for piece in pieces:
        start, word = piece.get("start"), piece.get("text")
        weight = number(piece.get("weight"))
        fits = isinstance(start, int) and isinstance(word, str) and weight is not None
        if not fits or start < end or text[start : start + len(word)] != word:
            continue
        level = sum(abs(weight) >= limit for limit in LEVELS)
        if not level:
            continue
        parts.append(text[end:start])
        kind = "f" if weight > 0 else "a"
        parts.append(tag("mark", word, class_=f"{kind}{level}", title=shown(weight)))
        end = start + len(word)
    parts.append(text[end:])
    return _within(text, join(*parts))


def _points(weight: float) -> str:
    return f"{100 * weight:+.0f}".replace("-", "−")


def _image_card(row: dict[str, Any], say: Say) -> Html:
    label, predicted = str(row.get("label", "")), str(row.get("predicted", ""))
    seen = say("mistake picture", label=label, predicted=predicted)
    thumbnail = _thumbnail(Path(str(row.get("input", ""))))
    shown: Html = tag("p", say("gone"), class_="quiet")
    if thumbnail:
        shown = picture(thumbnail, seen, "jpeg")
    name = Path(str(row.get("input", ""))).name
    return tag("li", shown, _verdict(row, say), tag("p", user_text(name, 60), class_="quiet"))


def _thumbnail(file: Path) -> bytes:
    """Return a small JPEG of an image file; empty if the file cannot be read any more."""
    from PIL import Image

    from tfx_transformer.images import read_image

    with contextlib.suppress(InputError, OSError, ValueError):
        image = Image.fromarray(read_image(file))
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=85)
        return content.getvalue()
    return b""


def samples_section(records: Records, say: Say) -> Html | None:
    """Return the outputs for held-out examples, next to the expected ones; None without any."""
    if pairs := records.table("pairs.csv"):
        return _pairs(pairs, say)
    samples = records.table("samples.csv")
    if not samples:
        return None
    has_references = "reference" in samples[0]
    cards = [_sample_card(row, has_references, say) for row in samples[:_SAMPLES]]
    return join(
        tag("p", say("samples note" if has_references else "continuations note")),
        tag("ul", *cards, class_="cards"),
        _shown_of(len(cards), len(samples), "samples.csv", say),
    )


def _sample_card(row: dict[str, str], has_references: bool, say: Say) -> Html:
    written, expected = row.get("written", ""), row.get("reference", "")
    items = [
        tag("dt", say("input")),
        tag("dd", user_text(row.get("source", ""))),
        tag("dt", say("output")),
        tag("dd", user_text(written) if written else tag("em", say("empty"))),
    ]
    if has_references and written == expected:
        items.append(tag("dd", f"✓ {say('same')}", class_="good"))
    elif has_references:
        items += [tag("dt", say("expected")), tag("dd", user_text(expected))]
    return tag("li", tag("dl", *items))


def _pairs(pairs: list[dict[str, str]], say: Say) -> Html:
    shown = pairs[:_SAMPLES]
    if "rank" in pairs[0]:
        header = [say("first"), say("nearest"), say("rank"), say("expected")]
        rows = []
        for row in shown:
            is_right = row.get("rank") == "1"
            expected: Any = user_text(row.get("second", ""), 200)
            if is_right:
                expected = tag("span", f"✓ {say('same')}", class_="good")
            cells = [user_text(row.get(name, ""), 200) for name in ("first", "nearest")]
            rows.append([*cells, row.get("rank", ""), expected])
        note = say("pairs note")
    else:
        header = [say("first"), say("second"), say("rating"), say("cosine")]
        rows = [
            [user_text(row.get("first", ""), 200), user_text(row.get("second", ""), 200)]
            + [row.get("score", ""), row.get("cosine", "")]
            for row in shown
        ]
        note = say("rated note")
    return join(
        tag("p", note),
        table(say("samples"), header, rows, numbers=False),
        _shown_of(len(shown), len(pairs), "pairs.csv", say),
    )


def _shown_of(shown: int, whole: int, file: str, say: Say) -> Html:
    text = say("sample of", shown=f"{shown:,}", whole=f"{whole:,}", file=file)
    return tag("p", text, class_="quiet")
