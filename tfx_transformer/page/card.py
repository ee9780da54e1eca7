"""The Markdown of model cards as HTML: headings, lists, code, tables and paragraphs."""

from __future__ import annotations

import re

from tfx_transformer.report.html import Html, escape, join, tag

_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]*)\]\(([^)\s]*)\)")
_HEADING = re.compile(r"(#{1,6}) +(.*)")
_RULE = re.compile(r"\|?[\s:|-]+\|[\s:|-]*")


def to_html(text: str) -> Html:
    """Return a card as HTML. Links become texts, since a page links to nothing outside."""
    return join(*(_block(lines) for lines in _blocks(text)))


def _blocks(text: str) -> list[list[str]]:
    """Return the lines of each paragraph; fenced code is one paragraph."""
    blocks: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            blocks += [[line]] if fenced else [[]]
        elif fenced:
            blocks[-1].append(line)
        elif _HEADING.fullmatch(line):
            blocks += [[line], []]
        elif not line.strip():
            blocks.append([])
        else:
            blocks[-1].append(line)
    return [block for block in blocks if block]


def _block(lines: list[str]) -> Html:
    first = lines[0]
    if first.startswith("```"):
        return tag("pre", "\n".join(lines[1:]), tabindex="0")
    if all(line.startswith("    ") for line in lines):
        return tag("pre", "\n".join(line[4:] for line in lines), tabindex="0")
    if heading := _HEADING.fullmatch(first):
        level = min(len(heading[1]) + 1, 6)  # the page has the one h1
        return tag(f"h{level}", _inline(heading[2]))
    if first.startswith(("- ", "* ")):
        items = [tag("li", _inline(line[2:].strip())) for line in _joined(lines)]
        return tag("ul", *items)
    if first.startswith("|") and len(lines) > 1 and _RULE.fullmatch(lines[1]):
        return _table(lines)
    return tag("p", _inline(" ".join(lines)))


def _joined(lines: list[str]) -> list[str]:
    """Return the items of a list, each joined with the lines that continue it."""
    items: list[str] = []
    for line in lines:
        if line.startswith(("- ", "* ")):
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    return items


def _table(lines: list[str]) -> Html:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    head = tag("tr", *(tag("th", _inline(cell), scope="col") for cell in rows[0]))
    body = [tag("tr", *(tag("td", _inline(cell)) for cell in row)) for row in rows[2:]]
    made = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=rows[0][0])


def _inline(text: str) -> Html:
    parts: list[Html] = []
    end = 0
    for found in _INLINE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        if found[1]:
            parts.append(tag("code", found[1]))
        elif found[2]:
            parts.append(tag("strong", found[2]))
        else:
            parts.append(escape(f"{found[3]} ({found[4]})" if found[4] else found[3]))
        end = found.end()
    return join(*parts, escape(text[end:]))
