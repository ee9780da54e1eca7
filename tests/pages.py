"""Reads the HTML pages that runs leave, strictly, and finds what a browser would load or run."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"img", "meta"}
# Attributes that a browser follows, loads or runs.
LOADING = {"src", "srcset", "href", "xlink:href", "action", "formaction", "poster", "data"}
LOADING |= {"background", "cite", "ping", "manifest", "style"}


class Page(HTMLParser):
    """A page whose elements are all closed, in order.

    Attributes:
        elements: (name, attributes) of each, in order.
        texts: what is read, by element.
        tables: rows of cells, as text, by the table's caption.
    """

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.source = source if isinstance(source, str) else Path(source).read_text("utf-8")
        self.elements, self.texts, self.tables = [], [], {}
        self._open, self._caption = [], None
        assert self.source.startswith("<!doctype html>\n<html lang=")
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, name, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute twice: {attributes}"
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self._open.append(name)
        if name == "caption":
            self._caption = ""
        elif name == "tr" and "tbody" in self._open:
            self.tables[self._caption].append([])
        elif name in ("td", "th") and "tbody" in self._open:
            self.tables[self._caption][-1].append("")

    def handle_startendtag(self, name, attributes):
        raise AssertionError(f"<{name}/>")

    def handle_endtag(self, name):
        assert self._open and self._open.pop() == name, f"</{name}> closes nothing"
        if name == "caption":
            self.tables[self._caption] = []

    def handle_data(self, text):
        self.texts.append((self._open[-1] if self._open else None, text))
        if "caption" in self._open:
            self._caption += text
        elif "tbody" in self._open and ("td" in self._open or "th" in self._open):
            self.tables[self._caption][-1][-1] += text

    def handle_comment(self, text):
        raise AssertionError(f"a comment: {text}")

    def all(self, name):
        """The attributes of every element of a name."""
        return [attributes for found, attributes in self.elements if found == name]

    def text(self):
        """All that is read, without the style; spaces where no line breaks are spaces."""
        read = "".join(text for name, text in self.texts if name != "style")
        return read.replace("\u00a0", " ")

    def rows(self, caption):
        """The rows of the table whose caption begins so, by their first cell."""
        (found,) = (rows for name, rows in self.tables.items() if name.startswith(caption))
        return {row[0]: row[1:] for row in found}


def check(page, links=()):
    """A page loads nothing, runs nothing, and can be read by everybody.

    Args:
        links: what it may link to beside its own sections.
    """
    names = {name for name, _ in page.elements}
    active = {"script", "iframe", "object", "embed", "link", "base", "form", "input", "button"}
    assert not names & (active | {"video", "audio", "source", "template", "foreignobject", "use"})
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], attributes
        for key in attributes.keys() & LOADING:
            value = attributes[key]
            own = name == "a" and value.startswith("#") and value[1:] in ids
            inside = name == "img" and re.fullmatch(r"data:image/(png|jpeg);base64,\S+", value)
            assert own or inside or (name == "a" and value in links), (name, key, value[:80])
    style = "".join(text for name, text in page.texts if name == "style")
    assert "url(" not in style and "@import" not in style and "\\" not in style
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv")]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'; img-src data:;")
    assert "script-src" not in policies[0]
    _check_accessible(page)


def _check_accessible(page):
    assert page.all("html")[0]["lang"] in ("en", "ja")
    assert [a for a in page.all("meta") if a.get("name") == "viewport"]
    assert len(page.all("title")) >= 1 and len(page.all("main")) == 1
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("aria-label") for attributes in page.all("svg"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(attributes.get("scope") for attributes in page.all("th"))


def report_of(run, bundle, scores):
    """The report of a recipe's run, checked: what it says is what the records and files say.

    Args:
        run: the run's folder.
        bundle: the bundle's folder.
        scores: what the table of scores is to show of each, such as {"accuracy": "91.2 %"}.
    """
    page = Page(run / "report.html")
    check(page)
    shown = page.rows("Scores on ")
    assert {name: shown[name][0] for name in scores} == scores
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        metrics = list(csv.DictReader(file))
    epochs = page.rows("Every epoch")
    assert list(epochs) == [row["epoch"] for row in metrics]
    losses = [f"{float(row['loss']):.4f}" for row in metrics]
    assert all(loss in cells for loss, cells in zip(losses, epochs.values(), strict=True))
    settings = [row[0] for name, rows in page.tables.items() for row in rows if "settings" in name]
    values = json.loads((run / "settings.json").read_text("utf-8"))
    for name in values:
        assert f"--{name.replace('_', '-')}" in page.text()
    assert settings
    read = json.loads((run / "data.json").read_text("utf-8"))
    parts = page.rows("Data of the run")
    counts = [next(p[key] for key in ("rows", "images", "blocks") if key in p) for p in read]
    assert [cells[0] for cells in parts.values()] == [f"{count:,}" for count in counts]
    exports = [rows for name, rows in page.tables.items() if name.startswith("The model in each")]
    for file in bundle.glob("*.tflite") if exports else ():
        (row,) = (row for row in exports[0] if row[0].endswith(file.name))
        size = file.stat().st_size
        assert row[1] == (f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB")
        assert float(row[2].replace(",", "")) > 0
    runs = Page(run.parent / "index.html")
    links = {f"./{folder.name}/report.html" for folder in run.parent.iterdir()}
    check(runs, links)
    (measure, value), *_ = scores.items()
    first = f"{measure.partition(' (')[0]} {value}"
    assert first in runs.rows("The runs in")[run.name]
    names = [path.name for path in bundle.rglob("*")]
    assert names and not {"report.html", "index.html"} & set(names), "a bundle holds no row"
    return page
