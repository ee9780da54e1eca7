"""Leads over other systems, and what moved since an earlier measurement.

A lead is the ratio of our fastest system to the fastest other one. Ratios are taken within rounds,
so that a change of the machine's speed affects both; the spread is their smallest and largest
value. If the spread reaches 1, there is not a lead.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.harness import Results
from benchmarks.tables import Case, System, Table

Timings = dict[tuple[int, int], float]  # by run and round

OURS = "tfx"
# Spreads of two rounds are narrow: a ratio that differs by less than this has not moved.
_MOVED = 0.05


def timings(table: Table, case: Case, system: str, quick: bool, results: Results) -> Timings:
    """The timings of a row."""
    lines = results.of(table.name, case.name, system, quick)
    return {(line["run"], line["round"]): line["value"] for line in lines if "value" in line}


def ratios(values: Timings, others: Timings) -> list[float]:
    """The ratios within the rounds that both have, in order."""
    return sorted(values[key] / others[key] for key in values.keys() & others.keys())


def lead(table: Table, case: Case, quick: bool, results: Results) -> Iterator[str]:
    """A line about our fastest system and the fastest other one; none without both."""
    rows = {one.name: timings(table, case, one.name, quick, results) for one in table.systems}
    ours = _fastest(table, rows, are_ours=True)
    other = _fastest(table, rows, are_ours=False)
    if ours is None or other is None:
        return
    found = ratios(rows[ours.name], rows[other.name])
    names = f"{_plain(ours)} beside {_plain(other)}"
    if len(found) < 2:
        yield f"No lead is known, {names}: it needs two rounds of both."
        return
    spread = f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"
    yield f"{'Lead' if found[0] > 1 else 'No lead'}, {names}: {spread}."


def moved(table: Table, case: Case, quick: bool, results: Results, kept: Results) -> Iterator[str]:
    """A line for each of our systems whose ratio to the fastest other one has changed.

    Args:
        quick: whether `results` are of quick runs.
        kept: the earlier measurement, not of quick runs, or another file of quick ones.
    """
    rows = {one.name: timings(table, case, one.name, quick, results) for one in table.systems}
    other = _fastest(table, rows, are_ours=False)
    if other is None:
        return
    for system in filter(_is_ours, table.systems):
        new = ratios(rows[system.name], rows[other.name])
        for is_quick in (False, True):
            before = (timings(table, case, n, is_quick, kept) for n in (system.name, other.name))
            if old := ratios(*before):
                break
        if not (new and old):
            continue
        was, now = statistics.median(old), statistics.median(new)
        is_apart = new[0] > old[-1] or new[-1] < old[0]
        if is_apart and abs(now / was - 1) > _MOVED:
            names = f"{_plain(system)} beside {_plain(other)}"
            yield f"Moved, {names}: {was:.2f} before, {now:.2f} now."


def _fastest(table: Table, rows: dict[str, Timings], are_ours: bool) -> System | None:
    measured = [one for one in table.systems if _is_ours(one) == are_ours and rows[one.name]]
    return max(measured, key=lambda one: statistics.median(rows[one.name].values()), default=None)


def _is_ours(system: System) -> bool:
    return system.name.split("-")[0] == OURS


def _plain(system: System) -> str:
    return system.title.replace("*", "")
