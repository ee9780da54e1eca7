"""The marker of slow tests, which only `make test-all` runs.

`@pytest.mark.slow` skips a test, `@pytest.mark.slow(but=["a", "b"])` all its variants except these:
the default run tests each claim once, ALL_TESTS=1 tests every variant. A variant's name is the one
in brackets of `pytest -v`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

ALL_TESTS = bool(os.environ.get("ALL_TESTS"))


def leave_out(items: Iterable[pytest.Item]) -> set[str]:
    """Skip slow tests, unless ALL_TESTS is set; return the names in `but` that no variant has."""
    named, found = set(), set()
    for item in items:
        if item.get_closest_marker("slow") is None:
            continue
        for marker in [m for m in item.own_markers if m.name == "slow" and m.kwargs]:
            function = item.nodeid.split("[")[0]
            named |= {f"{function}[{variant}]" for variant in marker.kwargs["but"]}
            found.add(item.nodeid)
            if item.callspec.id in marker.kwargs["but"]:
                item.own_markers.remove(marker)
        if not ALL_TESTS and item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason="slow: ALL_TESTS=1 runs it"))
    return named - found
