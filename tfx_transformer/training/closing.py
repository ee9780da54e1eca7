"""The last lines of a run: a conclusion on the model, and the commands to type next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfx_transformer import bundle, wording
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.evaluation.conclusion import Conclusion

Settings = Mapping[str, Any]


def ending(
    conclusion: Conclusion | None,
    path: Path | None,
    settings: Settings,
    report: Path | None = None,
) -> list[str]:
    """Return the last lines of a run.

    Args:
        conclusion: the conclusion on the model, if any.
        path: the bundle, if any.
        settings: settings of the run.
        report: the report page, if any.
    """
    lines = [""]
    for sentence in [] if conclusion is None else conclusion.sentences():
        lines += wrapped(sentence, COLUMNS)
    if report is not None and report.is_file():
        lines.append(wording.say("report", path=report))
    if path is not None:
        lines.append(wording.say("next"))
        lines += [line for one in next_commands(path, settings) for line in _command_lines(one)]
    return lines


def next_commands(path: Path, settings: Settings) -> list[list[str]]:
    """Return the two commands that a person types after a run, as their arguments.

    Args:
        path: the bundle.
        settings: settings of the run, which name the columns.
    """
    config = bundle.read_config(path)
    arguments = _ARGUMENTS[_kind(config)](path.as_posix(), settings)
    return [["tfx-transformer", *one] for one in arguments]


def _kind(config: Mapping[str, Any]) -> str:
    """Return the key of a bundle in `_ARGUMENTS`: "images", "tools", "chat" or its task."""
    if config["architecture"].get("image_size"):
        return "images"
    if config.get("tools"):
        return "tools"
    return "chat" if config.get("chat") else config["task"]


def _columns(settings: Settings, **defaults: str) -> list[str]:
    """Return the flags of columns that do not have their default names."""
    flags = []
    for name, default in defaults.items():
        value = settings.get(name, default)
        if value and value != default:
            flags += _flag(name, value)
    return flags


def _flag(name: str, value: str) -> list[str]:
    """Return a flag and its value, in one argument if the value would be taken for a flag."""
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]


def _read_column(settings: Settings, name: str, default: str) -> list[str]:
    """Return the flag of the column that `predict` reads; the bundle knows several columns."""
    column = settings.get(name, default)
    return [] if column == default or "," in column else _flag("column", column)


def _predict(path: str, *flags: str) -> list[str]:
    return ["predict", path, "table.csv", *flags, "--save", "out.csv"]


def _labels(path: str, settings: Settings) -> list[list[str]]:
    columns = _columns(settings, text="text", label="label", separator="")
    read = _read_column(settings, "text", "text")
    return [_predict(path, *read), ["evaluate", path, "table.csv", *columns]]


def _numbers(path: str, settings: Settings) -> list[list[str]]:
    columns = _columns(settings, text="text", target="target", decimal="")
    read = _read_column(settings, "text", "text")
    return [_predict(path, *read), ["evaluate", path, "table.csv", *columns]]


def _images(path: str, settings: Settings) -> list[list[str]]:
    return [["classify", path, "photo.jpg", "--top", "3"], ["evaluate", path, "photos/"]]


def _pairs(path: str, settings: Settings) -> list[list[str]]:
    columns = _columns(settings, source="source", target="target")
    read = _read_column(settings, "source", "source")
    return [_predict(path, *read), ["evaluate", path, "table.csv", *columns]]


def _chat(path: str, settings: Settings) -> list[list[str]]:
    columns = _columns(settings, instruction="instruction", input="input", output="output")
    return [["chat", path], ["evaluate", path, "table.csv", *columns]]


def _tools(path: str, settings: Settings) -> list[list[str]]:
    columns = _columns(settings, utterance="utterance", tool="tool", arguments="arguments")
    return [["chat", path], ["evaluate", path, "table.csv", *columns]]


def _causal(path: str, settings: Settings) -> list[list[str]]:
    tune = ["run", "instruction_finetuning", "--csv", "table.csv", "--base", path, "--name", "mine"]
    return [["generate", path, "The"], tune]


def _masked(path: str, settings: Settings) -> list[list[str]]:
    recipes = ("text_classification", "embedding")
    return [
        ["run", recipe, "--csv", "table.csv", "--base", path, "--name", "mine"]
        for recipe in recipes
    ]


def _tagging(path: str, settings: Settings) -> list[list[str]]:
    read = _read_column(settings, "text", "text")
    columns = _columns(settings, text="text", spans="")
    predict = ["predict", path, "table.csv", *read, "--save", "out.jsonl"]
    return [predict, ["evaluate", path, "table.jsonl", *columns]]


def _embedding(path: str, settings: Settings) -> list[list[str]]:
    column = settings.get("first", "text")
    read = _flag("column", column)
    search = ["similar", path, "What to look for", "--csv", "table.csv", *read]
    return [search, _predict(path, *read)]


_ARGUMENTS: dict[str, Callable[[str, Settings], list[list[str]]]] = {
    "classification": _labels,
    "images": _images,
    "seq2seq": _pairs,
    "chat": _chat,
    "tools": _tools,
    "causal": _causal,
    "masked": _masked,
    "embedding": _embedding,
    "tagging": _tagging,
    "regression": _numbers,
}


def _command_lines(arguments: list[str]) -> list[str]:
    """Return a command as lines of a shell, continued with a backslash if it is long."""
    lines = ["  " + arguments[0]]
    for argument in map(shlex.quote, arguments[1:]):
        if len(lines[-1]) + len(argument) + 3 > COLUMNS:
            lines[-1] += " \\"
            lines.append("     ")
        lines[-1] += f" {argument}"
    return lines
