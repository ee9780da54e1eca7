"""A benchmark as a table: systems are its rows, cases are its parts.

A module is a benchmark if it has

    a docstring   whose first line is the title, and which states the command, the duration and
                  what to expect
    UNIT          of a timed table, such as "tokens/s"; None: the table has scores
    SYSTEMS       the rows
    CASES         each one printed as a table of its own

and imports nothing heavy outside functions. A timed module may have `share(settings, system)`: the
limit that a system works against, "gemm" or "memory", and what one unit takes of it, in GFLOP or
GB.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

TABLES = (
    "generate",
    "translate",
    "encoder",
    "train_gpt",
    "train_seq2seq",
    "train_classifier",
    "train_image",
    "drafting",
    "packing",
    "tokenize",
    "read_table",
    "read_tokens",
    "tokenize_memory",
    "translation_quality",
    "text_quality",
    "image_quality",
    "similarity_quality",
    "preference_quality",
    "search",
    "finetuning",
    "shakespeare",
    "llama_shape",
    "real_size",
    "four_bit",
    "four_bit_memory",
    "four_bit_files",
    "backends",
    "planning",
    "planning_time",
    "step_memory",
)
KERAS = {"KERAS_BACKEND": "tensorflow"}
OURS = ("tensorflow", "keras")

# What a case is for its systems: its own settings, and `work` (a folder for files that are kept),
# `data` (the folder of --data or None), `threads` and `quick`.
Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class System:
    """A row of a table, measured in a process of its own.

    Args:
        name: for `--only` and the file of results.
        title: as printed.
        build: of a timed table, from the settings to a function that does some work and returns
            how many units it did; of a table of scores, from the settings to the scores by name.
        packages: distributions on PyPI that must be installed.
        environment: variables of the process.
    """

    name: str
    title: str
    build: Callable[[Settings], Any]
    packages: Sequence[str] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Case:
    """A part of a table.

    Args:
        name: for `--cases` and the file of results.
        title: as printed.
        settings: what the systems get, of JSON values.
        data: paths below the folder of `--data` that must be there.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    data: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """A benchmark, read from its module."""

    name: str
    module: str
    about: str
    unit: str | None
    systems: Sequence[System]
    cases: Sequence[Case]
    share: Callable[[Settings, str], tuple[str, float]] | None

    @property
    def title(self) -> str:
        return self.about.partition("\n")[0].rstrip(".")

    def system(self, name: str) -> System:
        return next(system for system in self.systems if system.name == name)


def load(module: str) -> Table:
    """The table of a module, such as "benchmarks.generate"."""
    found = importlib.import_module(module)
    return Table(
        name=module.rpartition(".")[2],
        module=module,
        about=found.__doc__,
        unit=found.UNIT,
        systems=found.SYSTEMS,
        cases=found.CASES,
        share=getattr(found, "share", None),
    )
