"""Tokens as one HTML page that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tfx_transformer.reprs import quantity
from tfx_transformer.text.counting import JAPANESE, Sample
from tfx_transformer.text.splitters import Token, visible

_COLOURS = 5

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #222; --quiet: #666; --line: #ddd; --page: #fff;
  --c0: #b9dcf5; --c1: #fbd9b0; --c2: #bde8c4; --c3: #f0cfe6; --c4: #f5eeb0; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e6e6; --quiet: #a0a0a0; --line: #444;
  --page: #181818; --c0: #1d4d70; --c1: #70451a; --c2: #22582d; --c3: #64325a; --c4: #585214; }} }}
body {{ margin: 2rem auto; padding: 0 1rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, "Hiragino Sans", "Noto Sans CJK JP", sans-serif; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ margin: 2rem 0 .3rem; font-size: 1rem; overflow-wrap: anywhere; }}
h3 {{ margin: .7rem 0 .2rem; font-size: .85rem; font-weight: 600; color: var(--quiet); }}
small {{ font-weight: 400; color: var(--quiet); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line);
  text-align: right; }}
th {{ font-weight: 400; color: var(--quiet); }}
th:nth-child(-n+2), td:nth-child(-n+2) {{ text-align: left; }}
p.tokens {{ margin: 0; line-height: 1.9; }}
p.tokens span {{ padding: .15rem 1px; border-radius: 3px; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
.c0 {{ background: var(--c0); }} .c1 {{ background: var(--c1); }} .c2 {{ background: var(--c2); }}
.c3 {{ background: var(--c3); }} .c4 {{ background: var(--c4); }}
.part {{ font: .75rem ui-monospace, monospace; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def token_page(
    title: str,
    names: Sequence[str],
    samples: Sequence[Sample],
    table: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
) -> str:
    """Return the page: notes and the table of counts, then each sample's tokens by each tokenizer.

    A token's id and bytes show where the pointer rests on it. Every text is escaped, and the page
    forbids itself to run or load anything.

    Args:
        names: names of the tokenizers, in the order of the samples' tokens.
        table: its rows, the header first; two columns of words, then numbers.
    """
    body = [f"<p>{escape(note)}</p>" for note in notes]
    body += ['<div class="scroll"><table>', _row("th", table[0])]
    body += [*(_row("td", cells) for cells in table[1:]), "</table></div>"]
    for sample in samples:
        body += _sample(names, sample)
    return _PAGE.format(title=escape(title), body="\n".join(body))


def _row(cell: str, texts: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in texts) + "</tr>"


def _sample(names: Sequence[str], sample: Sample) -> list[str]:
    size = ", ".join(
        [
            sample.language,
            quantity(sample.characters, "character"),
            quantity(sample.bytes, "byte"),
        ]
    )
    spoken = ' lang="ja"' if sample.language == JAPANESE else ""
    lines = [f"<h2{spoken}>{escape(visible(sample.label))} <small>{escape(size)}</small></h2>"]
    for name, tokens, count in zip(names, sample.tokens, sample.counts, strict=True):
        lines.append(f"<h3>{escape(name)}: {quantity(count, 'token')}</h3>")
        spans = "".join(_span(token, number) for number, token in enumerate(tokens))
        more = count - len(tokens)
        rest = f" <small>… and {more:,} more</small>" if more else ""
        lines.append(f'<p class="tokens"{spoken}>{spans}{rest}</p>')
    return lines


def _span(token: Token, number: int) -> str:
    part = token.is_part()
    title = f"id {token.id}, bytes {token.data.hex(' ')}" + ", part of a character" * part
    classes = f"c{number % _COLOURS}" + " part" * part
    # <wbr> allows a line break between two tokens, where the text itself has none.
    return f'<span class="{classes}" title="{title}">{escape(token.shown())}</span><wbr>'
