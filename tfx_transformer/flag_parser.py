"""The flags of a command, made from a documented function: its signature and its docstring."""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import docstring_parser
import yaml
from docstring_parser.google import DEFAULT_SECTIONS, GoogleParser, Section, SectionType

from tfx_transformer.errors import InputError

# Sections of a docstring that describe parameters; each is a group of `--help`.
GROUPS = ("Data arguments", "Model arguments", "Training arguments", "Result arguments")

# What stands for a value in `--help`.
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}

_MAX_SETTINGS_BYTES = 1024 * 1024
_MAX_YAML = 64 * 1024  # which takes up to a second; JSON is read a hundred times as fast


class FlagParser(argparse.ArgumentParser):
    """An argument parser that raises `InputError` and names the nearest flag.

    Flags must be written out: an abbreviation would change its meaning when a flag is added.
    """

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, with the command that lists the flags."""
        hint = f"See: {self.prog} --help"
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if unknown and unknown[0].startswith("--"):
            given = unknown[0].partition("=")[0]
            known = [name for name in self._option_string_actions if name.startswith("--")]
            if nearest := difflib.get_close_matches(given, known, n=1):
                hint = f"The nearest flag is {nearest[0]}. {hint}"
        raise InputError(f"{message}.\n  {hint}")


def make_parser(function: Callable[..., Any], prog: str) -> FlagParser:
    """Return a parser with one flag for each parameter of a function.

    `learning_rate: float = 1e-3` becomes `--learning-rate X`; a bool becomes `--name` and
    `--no-name`; a `Literal` lists its choices. The help of a flag is the parameter's description in
    the docstring, and its default. Parameters of one of the sections `GROUPS` make a group.

    Args:
        function: has a default for every parameter.
        prog: the command, as it is typed.
    """
    documented = _documentation(function)
    parser = FlagParser(
        prog=prog,
        usage="%(prog)s [--flag value ...]",
        description=_description(function, documented),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups: dict[str, Any] = {}
    described = {
        meta.args[-1]: (meta.args[0], " ".join((meta.description or "").split()))
        for meta in documented.meta
        if meta.args
    }
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        section, text = described.get(name, ("", ""))
        title = _title(section)
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        kind = hints.get(name, type(parameter.default))
        _add_flag(groups[title], name, kind, parameter.default, text)
    return parser


def parse(
    function: Callable[..., Any], parser: FlagParser, arguments: Sequence[str]
) -> tuple[dict[str, Any], argparse.Namespace]:
    """Return the keyword arguments for a function, and all that was parsed.

    What the command line says replaces what the file of `--config` says, and that the defaults.

    Raises:
        InputError: a flag is unknown, a value has another type or is not one of the choices, or the
            file of settings cannot be read.
    """
    names = list(inspect.signature(function).parameters)
    config = FlagParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    config.add_argument("--config")
    file = config.parse_known_args(arguments)[0].config
    given: list[str] = []
    if file:
        given = _as_arguments(Path(file), read_settings(file), parser, names)
    parsed = parser.parse_args([*given, *arguments])
    return {name: getattr(parsed, name) for name in names}, parsed


def read_settings(file: str | Path) -> dict[str, Any]:
    """Return the settings in a YAML or JSON file, such as the one that every run leaves.

    Raises:
        InputError: the file is missing, larger than 1 MiB, or not a table of names and values.
    """
    path = Path(file)
    try:
        if path.stat().st_size > _MAX_SETTINGS_BYTES:
            raise InputError(f"{path} is larger than any file of settings (1 MiB).")
        settings = _read_value(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"--config {path} cannot be read: {error.strerror}.\n"
            "  Name a YAML or JSON file, such as runs/<name>/settings.json of an earlier run."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(
            f"--config {path} is neither YAML nor JSON: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(settings, dict):
        raise InputError(
            f"--config {path} holds {type(settings).__name__}.\n"
            "  Expected a name and a value in each line, such as epochs: 20."
        )
    return settings


def _read_value(text: str) -> Any:
    """The value of a JSON or YAML text; ValueError and others if it is neither."""
    try:
        return json.loads(text)
    except ValueError:
        if len(text) > _MAX_YAML:
            raise ValueError(f"JSON is expected of more than {_MAX_YAML:,} characters") from None
        return yaml.safe_load(text)


def _as_arguments(
    file: Path, settings: Mapping[str, Any], parser: FlagParser, names: Sequence[str]
) -> list[str]:
    """Return settings as the command line would spell them; the parser has accepted them."""
    arguments = []
    for key, value in settings.items():
        name = str(key).replace("-", "_")
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            hint = f"The nearest is {nearest[0]!r}." if nearest else f"See: {parser.prog} --help"
            raise InputError(f"{file}: there is no setting {key!r}.\n  {hint}")
        _check_value(f"{file}, {key}", value)
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            argument = [flag if value else f"--no-{flag[2:]}"]
        elif value is None:
            continue
        elif isinstance(value, list):
            argument = [f"{flag}={','.join(map(str, value))}"]
        else:
            argument = [f"{flag}={value}"]
        try:
            parser.parse_args(argument)
        except InputError as error:
            raise InputError(f"{file}, {key}: {error}") from error
        arguments += argument
    return arguments


def _check_value(where: str, value: Any) -> None:
    """Raise if a setting is not a value, or a list of values, that a command line can hold."""
    values = value if isinstance(value, list) else [value]
    if any(isinstance(item, list | dict | set | bytes) for item in values):
        raise InputError(f"{where}: this is a table, or a list in a list.\n  Expected a value.")
    for text in values:
        if isinstance(text, str) and ("\0" in text or re.search("[\ud800-\udfff]", text)):
            raise InputError(
                f"{where}: the text holds a NUL character, or half a character.\n"
                "  Write it without."
            )


def _add_flag(group, name: str, kind: Any, default: Any, text: str) -> None:
    """Add the flag of one parameter to a group of a parser."""
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        text = f"{text} [on]" if default else text
        action = argparse.BooleanOptionalAction
        group.add_argument(flag, action=action, default=default, help=text or " ")
        return
    shown = "" if default is None or default == "" else f" [{default}]"
    text = (text + shown).replace("%", "%%")
    if typing.get_origin(kind) is typing.Literal:
        choices = [choice for choice in typing.get_args(kind) if choice is not None]
        kind = type(choices[0])
        group.add_argument(flag, type=kind, default=default, choices=choices, help=text)
        return
    optional = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    if optional:
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    metavar = _METAVARS.get(kind, "VALUE")
    convert = _optional(kind, default) if optional else kind
    group.add_argument(flag, type=convert, default=default, metavar=metavar, help=text)


def _optional(kind: type, default: Any) -> Callable[[str], Any]:
    """Return a conversion that takes an empty text for no value."""

    def convert(text: str) -> Any:
        return kind(text) if text else default

    convert.__name__ = kind.__name__  # argparse names it in its message
    return convert


def _documentation(function: Callable[..., Any]) -> docstring_parser.Docstring:
    """Return the parsed docstring of a function, in the form of Google's style guide."""
    groups = [Section(title, title, SectionType.MULTIPLE) for title in GROUPS]
    return GoogleParser([*DEFAULT_SECTIONS, *groups]).parse(function.__doc__ or "")


def _title(section: str) -> str:
    """Return the title of a group of flags in `--help`."""
    return section.removesuffix(" arguments") if section in GROUPS else "Options"


def _description(function: Callable[..., Any], documented: docstring_parser.Docstring) -> str:
    """Return the docstring of the function's module, which shows its commands, or its own."""
    module = inspect.getmodule(function)
    return inspect.cleandoc((module and module.__doc__) or documented.short_description or "")
