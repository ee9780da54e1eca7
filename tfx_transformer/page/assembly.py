"""The text of a page: one HTML file of a template, a style, modules of JavaScript and data."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfx_transformer.report.html import Html, escape

# Modules, each after those that it imports.
WORKER = (
    "bytes.js",
    "pieces.js",
    "tokenizers.js",
    "sampling.js",
    "images.js",
    "words.js",
    "heads.js",
    "tags.js",
    "engine.js",
    "answers.js",
    "worker.js",
)
SCRIPT = (
    "dom.js",
    "client.js",
    "files.js",
    "tables.js",
    "zip.js",
    "pictures.js",
    "bars.js",
    "token_view.js",
    "writing_views.js",
    "label_views.js",
    "tag_view.js",
    "teach_view.js",
    "teach_texts.js",
    "teach_pictures.js",
    "image_view.js",
    "vector_view.js",
    "page.js",
)
# The mark of our pages, which may be replaced.
MARK = '<meta name="generator" content="tfx-transformer page">'
_APP = Path(__file__).with_name("app")
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:class|function\*?|const) (\w+))", re.MULTILINE)


def page_text(
    spec: Mapping[str, Any], card: Html, runtime: str, held: Mapping[str, bytes] | None = None
) -> str:
    """Return the HTML of a page.

    Args:
        spec: the description of the bundle, JSON values.
        card: the model card.
        runtime: the script of LiteRT.js.
        held: files in the page, by name; None: they are next to it.
    """
    script = joined(SCRIPT)
    parts = {
        "policy": _policy(script, loads=held is None),
        "mark": MARK,
        "title": escape(spec["name"]),
        "style": _file("style.css"),
        "card": card,
        "bundle": _json(spec),
        "texts": _json(json.loads(_file("texts.json"))),
        "licences": escape(_file("licences.txt")),
        "worker": _in_script(runtime) + joined(WORKER),
        "files": "\n".join(
            f'<script type="text/plain" id="file-{name}">{base64.b64encode(data).decode()}</script>'
            for name, data in (held or {}).items()
        ),
        "script": script,
    }
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], _file("page.html"))


@functools.cache
def joined(names: Iterable[str]) -> str:
    """Return modules of `app/` as one script: each becomes a function that returns its exports, as
    constants of the same names, which the modules after it use."""
    texts = ["'use strict';"]
    for name in names:
        text = _IMPORT.sub("", _file(name))
        exported = ", ".join(found[2] for found in _EXPORT.finditer(text))
        text = _EXPORT.sub(r"\1", text)
        texts.append(f"const {{{exported}}} = (() => {{\n{text}\nreturn {{{exported}}};\n}})();")
    return _in_script("\n".join(texts))


def _policy(script: str, loads: bool) -> str:
    """Return the content security policy: the page may run its own script and worker, and, if it
    `loads` files, load those next to it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}' 'wasm-unsafe-eval'",
        "style-src": "'unsafe-inline'",
        "worker-src": "blob:",
        "connect-src": "'self'" if loads else "'none'",
        "img-src": "blob: data:",
        "media-src": "blob: mediastream:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in policy.items())


def _file(name: str) -> str:
    return (_APP / name).read_text(encoding="utf-8")


def _in_script(text: str) -> str:
    """Return a text escaped so that it does not end the element `script` around it."""
    return re.sub(r"<(/script|!--)", r"\\x3c\1", text, flags=re.IGNORECASE)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
