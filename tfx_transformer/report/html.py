"""HTML that its texts cannot break: each text is escaped, unless it is `Html` already."""

from __future__ import annotations

import base64
import html
import re
from typing import Any

from tfx_transformer.console import harmless

_VOID = frozenset({"img", "meta"})
# Characters of scripts whose glyphs depend on the language of the text.
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7af]")
_HAN = re.compile("[\u3400-\u9fff]")


class Html(str):
    """A text that is HTML: `tag` takes it as it is."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Return an element.

    Args:
        name: name of the element.
        children: `Html`, or texts and numbers, which are escaped; None is left out.
        attributes: values by name; `class_` is "class", "_" in a name is "-"; None is left out.
    """
    opened = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{opened}>")
    return Html(f"<{name}{opened}>{join(*children)}</{name}>")


def join(*children: Any) -> Html:
    """Return elements and texts, one after the other; None is left out."""
    return Html(
        "".join(
            child if isinstance(child, Html) else escape(str(child))
            for child in children
            if child is not None
        )
    )


def escape(text: str) -> Html:
    """Return a text as HTML. Characters that control a terminal or reverse the direction of writing
    are spelled out, such as \\u202e: a page must show what is in the data."""
    return Html(html.escape(harmless(text), quote=True))


def user_text(text: str, longest: int = 600) -> Html:
    """Return a text of the user's data, whose direction and line ends do not affect the page.

    Args:
        longest: most characters to show.
    """
    shown = text if len(text) <= longest else text[: longest - 1] + "…"
    return tag("bdi", shown, class_="user", lang=language_of(text))


def language_of(text: str) -> str | None:
    """Return the language that decides the glyphs of a text: "ja", "ko" or "zh"; None: any."""
    if _KANA.search(text):
        return "ja"
    if _HANGUL.search(text):
        return "ko"
    return "zh" if _HAN.search(text) else None


def table(
    caption: str, header: list[Any], rows: list[list[Any]], numbers: bool = True, class_: str = ""
) -> Html:
    """Return a table that scrolls by itself on a narrow page. The first cell of each row is its
    header.

    Args:
        caption: caption of the table.
        header: names of the columns.
        rows: cells of each row.
        numbers: True if all columns but the first are numbers.
        class_: CSS class of the table.
    """
    kinds = f"{'numbers ' if numbers else ''}{class_}".strip() or None
    head = tag("tr", *(tag("th", cell, scope="col") for cell in header))
    lines = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", *lines),
        class_=kinds,
    )
    return tag("div", made, class_="scroll", role="region", tabindex="0", aria_label=caption)


def picture(content: bytes, alternative: str, kind: str = "png", **attributes: Any) -> Html:
    """Return an image that is part of the page.

    Args:
        content: bytes of the file.
        alternative: description of the image.
        kind: "png" or "jpeg".
    """
    data = base64.b64encode(content).decode("ascii")
    return tag("img", src=f"data:image/{kind};base64,{data}", alt=alternative, **attributes)


def page(title: str, language: str, style: str, *body: Any) -> str:
    """Return a whole page, which loads nothing and runs no script."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy + "; form-action 'none'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=GENERATOR),
        tag("title", title),
        tag("style", Html(style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang=language)}\n"


# Generator of our pages, which may be replaced.
GENERATOR = "tfx-transformer"
