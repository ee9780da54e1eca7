"""Tables in Markdown of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks import leads, limits
from benchmarks.harness import Options, Results, why_skipped
from benchmarks.leads import Timings
from benchmarks.tables import Case, Table


def render(table: Table, options: Options, results: Results, kept: Results | None = None) -> str:
    """A heading and a table for each case.

    Args:
        kept: an earlier measurement to compare with, or None.
    """
    parts = [f"## {table.title}"]
    for case in filter(options.wants_case, table.cases):
        why = why_skipped(case, options)
        if why:
            parts.append(f"{case.title}: {why}.")
        else:
            title = f"{case.title}, {table.unit}" if table.unit else case.title
            body = _timed if table.unit else _scored
            parts.append("\n".join([f"{title}:", "", *body(table, case, options, results)]))
            if table.unit:
                said = [*leads.lead(table, case, options.quick, results)]
                if kept is not None:
                    said += leads.moved(table, case, options.quick, results, kept)
                parts += ["\n".join(said)] * bool(said)
    return "\n\n".join(parts)


def machines(results: Results) -> str:
    """The machine and its versions, a line for each that differ in anything but the load.

    Runs that measured nothing are left out.
    """
    measured = {line["run"] for line in results.lines if "machine" not in line}
    lines = {}
    for line in results.lines:
        if "machine" in line and line["run"] in measured:
            found = line["machine"]
            versions = " ".join(f"{name} {number}" for name, number in found["versions"].items())
            text = (
                f"{found['cores']} cores of {found['processor']}, {found['system']}, Python "
                f"{found['python']}, {versions}; commit {found['commit']}, {found['date']}"
            )
            lines[text] = found["load"]
    return "\n".join(f"{text}; load {load} at the beginning." for text, load in lines.items())


def _timed(table: Table, case: Case, options: Options, results: Results) -> Iterator[str]:
    rows = {s.name: _timings(table, case, s.name, options, results) for s in table.systems}
    medians = {name: statistics.median(values.values()) for name, values in rows.items() if values}
    fastest = max(medians, key=medians.get) if medians else None
    limited = {
        system.name.removeprefix("limit-"): statistics.median(values.values())
        for system in limits.SYSTEMS
        if (values := _timings(table, case, system.name, options, results))
    }
    yield from _line(
        "system", "median", "min–max", "ratio", *(["of the limit"] if table.share else [])
    )
    yield from _line(*["---"] * (5 if table.share else 4))
    for system in sorted(table.systems, key=lambda s: -medians.get(s.name, 0)):
        if system.name not in medians:
            why = _why(table, case, system.name, options, results)
            if why:
                yield from _line(system.title, why, "", "", *([""] if table.share else []))
            continue
        values = rows[system.name]
        cells = [
            number(medians[system.name]),
            f"{number(min(values.values()))}–{number(max(values.values()))}",
            ratio(values, rows[fastest]),
        ]
        if table.share:
            cells.append(_share(table, case, system.name, medians[system.name], limited))
        yield from _line(system.title, *cells)
    if limited:
        units = {"gemm": "matrix products {} GFLOP/s", "memory": "reading memory {} GB/s"}
        known = [units[name].format(number(value)) for name, value in limited.items()]
        yield from ("", f"In the same rounds: {', '.join(known)}.")


def _share(table: Table, case: Case, system: str, value: float, limited: dict[str, float]) -> str:
    kind, amount = table.share(dict(case.settings), system)
    return f"{100 * value * amount / limited[kind]:.0f} % ({kind})" if kind in limited else ""


def _timings(table: Table, case: Case, system: str, options: Options, results: Results) -> Timings:
    return leads.timings(table, case, system, options.quick, results)


def ratio(values: Timings, fastest: Timings) -> str:
    """The median of the ratios within rounds; "~": of the medians, since no round is shared."""
    if shared := leads.ratios(values, fastest):
        return f"{statistics.median(shared):.2f}"
    of_medians = statistics.median(values.values()) / statistics.median(fastest.values())
    return f"~{of_medians:.2f}"


def _scored(table: Table, case: Case, options: Options, results: Results) -> Iterator[str]:
    scores: dict[str, dict[str, Any]] = {}
    for system in table.systems:
        for line in results.of(table.name, case.name, system.name, options.quick):
            scores.setdefault(system.name, {}).update(line.get("scores", {}))
    columns = list(dict.fromkeys(name for found in scores.values() for name in found)) or [""]
    yield from _line("system", *columns)
    yield from _line(*["---"] * (1 + len(columns)))
    for system in table.systems:
        found = scores.get(system.name)
        if found:
            cells = [found.get(name, "") for name in columns]
            yield from _line(system.title, *map(number, cells))
            continue
        why = _why(table, case, system.name, options, results)
        if why:
            yield from _line(system.title, why, *[""] * (len(columns) - 1))


def _why(table: Table, case: Case, system: str, options: Options, results: Results) -> str | None:
    """The latest reason why a row has no figures; None: nobody asked for it."""
    lines = results.of(table.name, case.name, system, options.quick)
    if not lines:
        return None
    if "missing" in lines[-1]:
        return f"not installed: `pip install {' '.join(lines[-1]['missing'])}`"
    return f"failed: {lines[-1].get('error', 'unknown')}".partition("\n")[0].replace("|", "\\|")


def failures(results: Results) -> list[str]:
    """The failures of the latest run."""
    return [
        f"{line['table']} {line['case']}: {line['system']}: {line['error']}"
        for line in results.lines
        if line["run"] == results.run and "error" in line
    ]


def number(value: Any) -> str:
    """Three or four digits that count; text as it is."""
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.4g}"


def _line(*cells: str) -> Iterator[str]:
    yield "| " + " | ".join(cells) + " |"
