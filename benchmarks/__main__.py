"""Measure this repository's models beside others, and print the tables of benchmarks/README.md.

    python -m benchmarks list              the tables, their cases and systems
    python -m benchmarks generate          one table; several names are possible
    python -m benchmarks all --data DATA   every table
    python -m benchmarks all --quick       the tables of speed in two short rounds
    python -m benchmarks quality --list    the figures of docs/quality.md; see quality --help

Every timing is kept in the file of results, and a row that is finished is not measured again:
an interrupted command goes on where it was. If the package of a system is not installed, its row
says so. Quick runs have a file for each commit, and name what moved since the kept results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks import harness, machine, quality, report, tables

KEPT = Path("runs/benchmarks/results.jsonl")
# A quick run: rounds, and the shortest time of a timing in seconds.
QUICK = (2, 0.3)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="+", metavar="NAME", help="a table, all, or list: print what there is")
    add("--quick", action="store_true", help="short rounds; of all tables those of speed only")
    add("--rounds", type=positive(int), help="timings of each system [5; quick: 2]")
    add("--seconds", type=positive(float), help="shortest time of a timing [1; quick: 0.3]")
    add("--only", type=parts, default=[], metavar="PART,...", help="systems with this in the name")
    add("--cases", type=parts, default=[], metavar="PART,...", help="cases with this in the name")
    add("--data", type=folder, metavar="FOLDER", help="data that the repository does not hold")
    add(
        "--results",
        type=Path,
        metavar="FILE.jsonl",
        help=f"file that timings are added to [{KEPT}; quick: quick-COMMIT.jsonl beside it]",
    )
    add(
        "--against",
        type=Path,
        default=KEPT,
        metavar="FILE.jsonl",
        help=f"results that quick ones are compared with, if the file is there [{KEPT}]",
    )
    add(
        "--python",
        type=pair,
        action="append",
        default=[],
        metavar="PART=PATH",
        help="interpreter for systems with PART in the name, such as torch=/path/to/python",
    )
    add("--threads", type=positive(int), default=os.cpu_count(), help="of each system [all cores]")
    add("--json", action="store_true", help="list as JSON")
    return parser


def positive(kind: type):
    """A parser of numbers above 0."""

    def parse(text: str):
        value = kind(text)
        if not 0 < value < 1e9:
            raise ValueError
        return value

    parse.__name__ = f"{kind.__name__} above 0"
    return parse


def parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is not a folder {text}")
    return Path(text)


def pair(text: str) -> tuple[str, str]:
    part, equals, path = text.partition("=")
    if not (part and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not PART=PATH")
    return part, path


def listing(found: list[tables.Table]) -> list[dict]:
    """The tables as JSON values."""
    return [
        {
            "name": table.name,
            "title": table.title,
            "about": table.about,
            "unit": table.unit,
            "cases": [
                {"name": case.name, "title": case.title, "data": list(case.data)}
                for case in table.cases
            ],
            "systems": [
                {"name": system.name, "title": system.title, "packages": list(system.packages)}
                for system in table.systems
            ],
        }
        for table in found
    ]


def show(found: list[tables.Table]) -> None:
    for table in found:
        print(f"{table.name:<20} {table.title}")
        print(f"{'':<20} cases: {', '.join(case.name for case in table.cases)}")
        print(f"{'':<20} systems: {', '.join(system.name for system in table.systems)}")


def chosen_tables(reader: argparse.ArgumentParser, names: list[str]) -> list[tables.Table]:
    """The tables of these names; exits with a message if there is none of a name."""
    unknown = [name for name in names if name not in (*tables.TABLES, "all", "list")]
    if unknown:
        known = ", ".join(("list", "all", *tables.TABLES))
        reader.error(f"there is not a table {unknown[0]!r}; choose from {known}")
    if "list" in names and len(names) > 1:
        reader.error("list has no other names beside it")
    if "all" in names or "list" in names:
        names = tables.TABLES
    return [tables.load(f"benchmarks.{name}") for name in dict.fromkeys(names)]


def run(found: list[tables.Table], options: harness.Options, against: Path | None = None) -> int:
    """Measure and print the tables; the exit status: 1 if a system failed, 2 for a bad file.

    Args:
        against: file of an earlier measurement to compare with; it need not be there.
    """
    try:
        kept = harness.Results(against) if against is not None and against.exists() else None
        results = harness.Results(options.results)
        results.begin()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for table in found:
        harness.measure(table, options, results, lambda line: print(line, file=sys.stderr))
        print(report.render(table, options, results, kept) + "\n", flush=True)
    print(report.machines(results))
    failed = report.failures(results)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["quality"]:
        return quality.main(arguments[1:])
    reader = parser()
    given = reader.parse_args(arguments)
    found = chosen_tables(reader, given.names)
    if "list" in given.names:
        if given.json:
            print(json.dumps(listing(found), ensure_ascii=False, indent=1))
        else:
            show(found)
        return 0
    rounds, seconds = QUICK if given.quick else (5, 1.0)
    usual = KEPT.with_name(f"quick-{machine.commit()}.jsonl") if given.quick else KEPT
    options = harness.Options(
        results=given.results or usual,
        rounds=given.rounds or rounds,
        seconds=given.seconds or seconds,
        quick=given.quick,
        data=given.data,
        only=given.only,
        cases=given.cases,
        python=dict(given.python),
        threads=given.threads,
    )
    if given.quick and "all" in given.names:
        found = [table for table in found if table.unit]
    found = [table for table in found if any(map(options.wants_case, table.cases))]
    if not any(options.wants(system) for table in found for system in table.systems):
        reader.error("no case and system has such names; see python -m benchmarks list")
    return run(found, options, given.against if given.quick else None)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
