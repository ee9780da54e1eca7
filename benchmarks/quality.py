"""Rerun the figures of docs/quality.md, and write its tables.

    python -m benchmarks quality --list
    python -m benchmarks quality --data DATA --only trec,sst2 --seeds 1
    python -m benchmarks quality --data DATA

A figure is the score, on official test rows, of a model that a recipe trains by its defaults or by
a preset. Scores are kept in benchmarks/quality.json with their commit and date; a figure that is
there is not run again without --again. An interrupted training goes on where it was. Test rows are
read once for each frozen set of defaults: settings are chosen on validation rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import commands, machine, quality_table
from benchmarks.figures import BY_NAME, FIGURES, LINES, MODELS, Figure
from benchmarks.quality_scores import file_of_test, scores

RESULTS = Path(__file__).with_name("quality.json")


class Kept:
    """The kept results: a JSON list with a record for each figure and seed.

    Raises:
        ValueError: the file is not such a list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = self._read()

    def _read(self) -> list[dict[str, Any]]:
        """The records of the file; an empty list if the file does not exist."""
        if not self.path.exists():
            return []
        try:
            records = json.loads(self.path.read_text(encoding="utf-8"))
            [(record["figure"], record["seed"], record["score"]) for record in records]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{self.path} is not a list of results.\n  Name another file with --results."
            ) from None
        return records

    def has(self, figure: Figure, seed: int) -> bool:
        return any(_key(record) == (figure.name, seed) for record in self.records)

    def put(self, record: dict[str, Any]) -> None:
        """Keep a record instead of the one of that figure and seed, in the order of `FIGURES`.

        The file is read again, so records that another process has kept since then stay.
        """
        order = {figure.name: index for index, figure in enumerate(FIGURES)}
        others = [one for one in self._read() if _key(one) != _key(record)]
        self.records = sorted(
            [*others, record], key=lambda one: (order.get(one["figure"], len(order)), one["seed"])
        )
        lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in self.records)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".new")
        beside.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        beside.replace(self.path)


def _key(record: dict[str, Any]) -> tuple[str, int]:
    return record["figure"], record["seed"]


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("--only", type=_names, default=[], metavar="NAME,...", help="figures of these names [all]")
    add("--seeds", type=_seeds, default=[], metavar="N,...", help="seeds [as the figure says]")
    add("--data", type=Path, metavar="FOLDER", help="data that the repository does not hold")
    add("--again", action="store_true", help="train and score kept figures again")
    add("--list", action="store_true", help="print the figures and what is kept")
    add("--write", action="store_true", help="only write the tables of docs/quality.md")
    add("--work", type=Path, default=Path("runs/quality"), help="folder of models [runs/quality]")
    add("--results", type=Path, default=RESULTS, help="kept results [benchmarks/quality.json]")
    return found


def _names(text: str) -> list[str]:
    names = [part for part in text.split(",") if part]
    known = [figure.name for figure in FIGURES]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"there is not a figure {name!r}; choose from {', '.join(known)}"
            )
    return names


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 1,2,3") from None


def main(arguments: Sequence[str]) -> int:
    """Run the figures; 1 if one failed, 2 for wrong arguments."""
    reader = parser()
    given = reader.parse_args(arguments)
    try:
        kept = Kept(given.results)
    except ValueError as error:
        reader.error(str(error))
    figures = [figure for figure in FIGURES if not given.only or figure.name in given.only]
    if given.list:
        print("\n".join(_listing(figures, kept)))
        return 0
    if given.write:
        quality_table.write(kept.records)
        return 0
    settings = {"work": str(given.work.resolve()), "data": given.data, "quick": False}
    given.work.mkdir(parents=True, exist_ok=True)
    wanted = [
        (figure, seed)
        for figure in figures
        for seed in given.seeds or figure.seeds
        if given.again or not kept.has(figure, seed)
    ]
    total = sum(figure.minutes for figure, _ in wanted)
    print(f"{len(wanted)} models, about {total:g} minutes on 2 quiet cores", flush=True)
    failed = 0
    for number, (figure, seed) in enumerate(wanted, 1):
        title = f"{figure.name}, seed {seed}"
        try:
            if missing := _missing(figure, settings):
                raise RuntimeError(missing)
            print(f"{title}: model {number} of {len(wanted)}", flush=True)
            record = measure(figure, seed, settings, given.again)
        except (RuntimeError, ValueError, OSError, zipfile.BadZipFile) as error:
            print(f"{title}: failed: {error}", file=sys.stderr)
            failed = 1
            continue
        kept.put(record)
        print(quality_table.line(record), flush=True)
    if given.results.resolve() == RESULTS.resolve():
        quality_table.write(kept.records)
    return failed


def measure(figure: Figure, seed: int, settings: dict[str, Any], again: bool) -> dict[str, Any]:
    """Train a figure's model with a seed, unless it is there, and return the record of its scores.

    Raises:
        RuntimeError: a command failed.
        ValueError, OSError, zipfile.BadZipFile: a table or an archive cannot be read.
    """
    settings = {**settings, "data": _unpacked(figure, settings)}
    trained = BY_NAME[figure.model] if figure.model else figure
    training = _training(trained, seed, settings)
    spent = _train(trained, seed, settings, training, again and not figure.model)
    found = scores(figure, settings, _folder(trained, seed, settings), training)
    here = machine.describe()
    return {"figure": figure.name, "seed": seed, **found} | {
        "processor_minutes": round(spent["seconds"] / 60, 1) if spent else None,
        "date": here["date"],
        "commit": spent.get("commit", here["commit"]),
        "processor": here["processor"],
    }


def _train(
    figure: Figure, seed: int, settings: dict[str, Any], training: Sequence[str], again: bool
) -> dict[str, Any]:
    """Train a figure's model, and first the models that it needs, unless they are there.

    Returns: "seconds" of the processor, and the "commit" at which it began; {} if not known.
    """
    for name in figure.parents:
        parent = BY_NAME[name]
        _train(parent, seed, settings, _training(parent, seed, settings), False)
    name = f"{figure.name}-{seed}"
    flags = [*training, "--seed", str(seed)]
    if again:
        flags.append("--overwrite")
    cost = Path(settings["work"], f"{name}.cost.json")
    if again or not Path(_folder(figure, seed, settings)).exists():
        spent = {"seconds": 0.0, "commit": machine.commit()}
        if cost.exists() and not again:
            spent = json.loads(cost.read_text("utf-8"))
        begin = _processor_seconds()
        try:
            commands.train(settings, figure.recipe, name, *flags, shown=True)
        finally:
            seconds = spent["seconds"] + _processor_seconds() - begin
            cost.write_text(json.dumps(spent | {"seconds": seconds}), "utf-8")
    return json.loads(cost.read_text("utf-8")) if cost.exists() else {}


def _folder(figure: Figure, seed: int, settings: dict[str, Any]) -> str:
    """The folder of a figure's own model."""
    return str(Path(settings["work"], MODELS, f"{figure.name}-{seed}"))


def _processor_seconds() -> float:
    """The processor time of all commands that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def _training(figure: Figure, seed: int, settings: dict[str, Any]) -> list[str]:
    """The flags of the training; the table of a figure of few rows, and the file of its texts
    without labels, are written into the folder for work."""
    flags = [
        _folder(BY_NAME[flag.removeprefix(MODELS)], seed, settings)
        if flag.startswith(MODELS)
        else flag
        for flag in commands.data(settings, figure.train)
    ]
    if figure.lines:
        lines = Path(settings["work"], f"{figure.name}-{LINES}")
        table, column = commands.data(settings, figure.lines)
        seen = {_letters(text) for text in _column(file_of_test(figure, settings), "text")}
        texts = [" ".join(text.split()) for text in _column(table, column)]
        kept = [text for text in texts if text and _letters(text) not in seen]
        lines.write_text("".join(f"{text}\n" for text in kept), encoding="utf-8")
        flags[flags.index(LINES)] = str(lines)
    if not figure.rows_per_class:
        return flags
    from tfx_transformer import data

    place = flags.index("--csv") + 1
    rows = data.read_labelled_texts(flags[place])
    labels = [label for (label,) in rows.labels]
    table = Path(settings["work"], f"{figure.name}-{seed}.csv")
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for index in drawn_rows(labels, figure.rows_per_class, seed):
            writer.writerow([*rows.texts[index], labels[index]])
    flags[place] = str(table)
    return flags


def _column(table: str, name: str) -> list[str]:
    """The cells of a column of a CSV table."""
    with open(table, encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def _letters(text: str) -> str:
    """The letters and digits of a text, in lower case."""
    return "".join(filter(str.isalnum, text.lower()))


def drawn_rows(labels: Sequence[str], count: int, seed: int) -> list[int]:
    """The indices of `count` rows of each label, drawn by the seed, in the order of the rows."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(labels))
    left = dict.fromkeys(labels, count)
    drawn = []
    for index in order.tolist():
        if left[labels[index]]:
            left[labels[index]] -= 1
            drawn.append(index)
    return sorted(drawn)


def _missing(figure: Figure, settings: dict[str, Any]) -> str:
    """The reason why the data of a figure cannot be read; "" if they can."""
    flags = [*figure.train, *figure.lines, figure.test]
    for name in figure.parents:
        flags += BY_NAME[name].train
    paths = [path for path in flags if path.startswith("DATA/")]
    paths = [f"DATA/{figure.archive}"] if figure.archive else paths
    if paths and settings["data"] is None:
        return "give the folder of the data with --data"
    gone = [path for path in commands.data(settings, paths) if not Path(path).exists()]
    return f"there is not a file {gone[0]}" if gone else ""


def _unpacked(figure: Figure, settings: dict[str, Any]) -> str | None:
    """The folder of the data; of an archive the folder for work, into which it is unpacked."""
    if not figure.archive:
        return str(settings["data"].resolve()) if settings["data"] else None
    folder = Path(settings["work"], Path(figure.archive).stem)
    if not folder.exists():
        with zipfile.ZipFile(Path(settings["data"], figure.archive)) as archive:
            archive.extractall(folder.with_suffix(".new"))
        folder.with_suffix(".new").replace(folder)
    return settings["work"]


def _listing(figures: Sequence[Figure], kept: Kept) -> Iterator[str]:
    for figure in figures:
        seeds = [record["seed"] for record in kept.records if record["figure"] == figure.name]
        state = f"kept: seeds {', '.join(map(str, seeds))}" if seeds else "not measured"
        yield f"{figure.name:<22} {figure.title}"
        yield f"{'':<22} {state}; about {figure.minutes:g} minutes a seed"
