"""The page at the server's address: its models, and how to ask them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from urllib.parse import quote

from tfx_transformer.serve.endpoints import Endpoint
from tfx_transformer.serve.openapi import PAGES

# The page runs no script and loads nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tfx-transformer serve</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8885;
  vertical-align: top; }}
</style>
<h1>tfx-transformer serve</h1>
<h2>Models</h2>
<table><tr><th>name</th><th>task</th></tr>{models}</table>
<h2>Addresses</h2>
<table><tr><th>address</th><th>what it does</th></tr>{addresses}</table>
<p>The fields of requests and answers: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
</html>
"""


def page(
    models: Sequence[tuple[str, str]], endpoints: Sequence[Endpoint], shown: Sequence[str] = ()
) -> str:
    """Return the page.

    Args:
        models: name and task of each model.
        endpoints: the endpoints of these models.
        shown: names of the models that have a page in which they run.
    """
    models_table = "".join(_model_row(name, task, name in shown) for name, task in models)
    posts = [(f"POST {one.path}", one.text) for one in endpoints]
    gets = [(f"GET {path}", text) for path, (text, _) in PAGES.items()]
    return _PAGE.format(models=models_table, addresses=_rows([*posts, *gets]))


def _model_row(name: str, task: str, has_page: bool) -> str:
    shown = html.escape(name)
    if has_page:
        shown = f'<a href="pages/{quote(name, safe="")}/">{shown}</a> (runs in your browser)'
    return f"<tr><td>{shown}</td><td>{html.escape(task)}</td></tr>"


def _rows(rows: list[tuple[str, str]]) -> str:
    return "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
