"""The table of docs/places.md: each mark has a test that is there, and each test a mark."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "places.md").read_text("utf-8")


def rows(text):
    """The cells of each line of a table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def marked():
    """(place, model) of the marks in the first table."""
    (_, *models), _, *places = rows(PAGE.partition("## The tests")[0])
    assert all(set(cells) <= {"✓", ""} and len(cells) == len(models) for _, *cells in places)
    pairs = [(place, zip(models, cells, strict=True)) for place, *cells in places]
    return {(place, model) for place, marks in pairs for model, mark in marks if mark}


def listed():
    """(place, model, test) of the second table; a place is in the first of its rows."""
    found, place = [], ""
    for first, test, models in rows(PAGE.partition("## The tests")[2])[2:]:
        place = first or place
        found += [(place, model, test.strip("`")) for model in models.split(", ")]
    return found


@functools.cache
def functions_of(file):
    """The test functions of a file."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_mark_has_a_test_and_each_test_a_mark():
    found = listed()
    assert len(found) == len(set(found)) > 40
    assert {(place, model) for place, model, _ in found} == marked()


def test_the_tests_are_there():
    missing = []
    for _, _, test in listed():
        file, _, name = test.partition("::")
        assert re.fullmatch(r"tests/[\w/]+\.py", file), test
        if name not in functions_of(file) or not name.startswith("test_"):
            missing.append(test)
    assert not missing, "tests that docs/places.md names"
