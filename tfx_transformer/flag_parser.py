"""The arguments of a command, made from a documented function: its signature and its docstring."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeGuard

import docstring_parser
from docstring_parser.google import DEFAULT_SECTIONS, GoogleParser, Section, SectionType

from tfx_transformer.arguments import looks_like_file
from tfx_transformer.errors import InputError

# Sections of a docstring that describe parameters; each is a group of `--help`.
GROUPS = ("Data arguments", "Model arguments", "Training arguments", "Result arguments")

# Smallest default that `--help` shows with an exponent, such as 1e+09.
_LARGE = 1e6
# The placeholders of values in `--help`.
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}

# The message of argparse about a number, and the kinds of numbers.
_WRONG_NUMBER = re.compile(r"argument (\S+): invalid (int|float) value: (.+)", re.DOTALL)
_NUMBERS = {"int": "a whole number", "float": "a number"}

# Flags that name the data of a recipe.
_DATA = ("csv", "data", "images", "text", "tokens")

# A parameter in a docstring, and the placeholder of its value: `csv (FILE.csv)`.
_NAMED = re.compile(r"\*?(?P<name>\w+)(?: \((?P<metavar>.+)\))?")

_MAX_SETTINGS_BYTES = 1024 * 1024
_MAX_YAML = 64 * 1024  # which takes up to a second; JSON is read a hundred times as fast


class Kinds(NamedTuple):
    """A command of several kinds, such as `vectors words`: its summary, and a function for each."""

    summary: str
    functions: Mapping[str, Callable[..., Any]]


class FlagParser(argparse.ArgumentParser):
    """An argument parser that raises `InputError` and names the nearest flag.

    Attributes:
        is_verb: True if unknown arguments are refused at once, as by the parser of a whole command.
    """

    is_verb = False

    def flags(self) -> list[str]:
        """Return the flags, such as "--column"."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """Raise an InputError with the message, and the command that lists the flags."""
        hint = f"See: {self.prog} --help"
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if unknown and unknown[0].startswith("--"):
            given = unknown[0].partition("=")[0]
            if nearest := self._nearest(given):
                hint = f"The nearest flag is {nearest}. {hint}"
        elif unknown and looks_like_file(unknown[0]) and "--csv" in self.flags():
            hint = f"Did you mean --csv {unknown[0]}? {hint}"
        if wrong := _WRONG_NUMBER.fullmatch(message):
            flag, kind, value = wrong.groups()
            message, hint = f"{flag} is {value}", f"Expected {_NUMBERS[kind]}. {hint}"
        raise InputError(f"{message}.\n  {hint}")

    def _nearest(self, given: str) -> str:
        """Return the flag that is most like a given one; "" if none is like it. Of the flags that
        name the data of recipes, such as --csv and --images, each is like the others."""
        flags = {flag.lstrip("-"): flag for flag in self.flags()}
        nearest = difflib.get_close_matches(given.lstrip("-"), flags, n=1)
        alike = [name for name in _DATA if name in flags] if given.lstrip("-") in _DATA else []
        return next((flags[name] for name in (*nearest, *alike)), "")

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore
        """Return the parsed values and the unknown arguments; a verb raises if there are any.

        `argparse` puts only texts before the first flag into a list of texts; `_place` adds others.
        """
        parsed, unknown = super().parse_known_args(args, namespace)
        if self.is_verb and not any(text.startswith("-") for text in unknown):
            unknown = self._place(parsed, unknown)
        if unknown and self.is_verb:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def _place(self, parsed: argparse.Namespace, texts: list[str]) -> list[str]:
        """Give texts to the arguments without a flag that take more; return the remaining texts."""
        for action in self._actions:
            if action.nargs == "?" and not action.option_strings and texts:
                if getattr(parsed, action.dest) is action.default:
                    setattr(parsed, action.dest, self._get_values(action, texts[:1]))
                    texts = texts[1:]
            elif action.nargs == "*" and texts:
                before = getattr(parsed, action.dest)
                setattr(parsed, action.dest, [*before, *self._get_values(action, texts)])
                texts = []
        return texts


def make_parser(function: Callable[..., Any], prog: str) -> FlagParser:
    """Return the parser of a recipe, with one flag for each parameter of its function.

    Flags have no abbreviations: these would change their meaning when a flag is added.

    Args:
        function: see `add_arguments`; the docstring of its module is the description.
        prog: the command, as it is typed.
    """
    module = inspect.getmodule(function)
    description = (module and module.__doc__) or _documentation(function).short_description or ""
    parser = FlagParser(
        prog=prog,
        usage="%(prog)s [--flag value ...]",
        description=inspect.cleandoc(description),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(parser, function)
    return parser


def add_verb(verbs: Any, name: str, action: Callable[..., Any] | Kinds) -> list[FlagParser]:
    """Add a verb to a command, and return its parsers: its own, and those of its kinds.

    The parsed namespace has the attributes `function`, which `bind` calls, and `parser`.

    Args:
        verbs: made by `add_subparsers`.
        action: see `add_arguments`; the first paragraph of its docstring is the description.
    """
    if isinstance(action, Kinds):
        parser = verbs.add_parser(name, help=action.summary, description=action.summary)
        kinds = parser.add_subparsers(metavar="KIND", required=True)
        below = [add_verb(kinds, *item) for item in action.functions.items()]
        return [parser, *(one for parsers in below for one in parsers)]
    summary = " ".join((inspect.getdoc(action) or "").partition("\n\n")[0].split())
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.is_verb = True
    parser.set_defaults(function=action, parser=parser)
    add_arguments(parser, action)
    parser.usage = f"{parser.prog} {_synopsis(parser)}"
    return [parser]


def _synopsis(parser: FlagParser) -> str:
    """Return the usage of a command: its positional arguments and required flags."""
    shown = []
    for action in parser._actions:
        if not action.option_strings:
            one = {"?": "[{}]", "*": "[{} ...]", "+": "{} [...]"}.get(str(action.nargs), "{}")
            shown.append(one.format(action.metavar))
        elif action.required:
            shown.append(f"{action.option_strings[0]} {action.metavar}")
    return " ".join([*shown, "[--flag value ...]"]).replace("%", "%%")


def add_arguments(parser: FlagParser, function: Callable[..., Any]) -> None:
    """Add an argument to a parser for each parameter of a function.

    `learning_rate: float = 1e-3` becomes `--learning-rate X`; a bool becomes `--name` and
    `--no-name`; a `Literal` lists its choices; `Sequence[str]` is a flag that may be repeated; a
    parameter without a default is required. Positional-only parameters, those before `/`, are
    arguments without a flag, as is `*texts: str`, any number of them. A parameter whose type is a
    dataclass becomes a group of flags, one for each field, which several functions can share. A
    `Sequence[tuple[Literal["a", "b"], str]]` becomes `--a` and `--b`, whose values it holds in the
    order of the command line.

    The help of an argument is the parameter's description in the docstring, and its default.
    `name (FILE.csv): …` in the docstring also gives the placeholder of a value without choices.
    Parameters of one of the sections `GROUPS` make a group.
    """
    described = _describe(function)
    groups: dict[str, Any] = {}
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        text = described.get(name, _Description())
        kind = hints.get(name, type(parameter.default))
        if _is_group(kind):
            title = name.replace("_", " ").capitalize()
            _add_fields(parser.add_argument_group(title, text.text), kind)
            continue
        if text.section in GROUPS:
            title = text.section.removesuffix(" arguments")
            group = groups.get(title) or parser.add_argument_group(title)
            groups[title] = group
        else:
            group = parser
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            _add_positional(group, parameter, kind, text)
        elif choices := _named_choices(kind):
            for choice in choices:
                _add_named(group, name, choice, described.get(choice, _Description()))
        else:
            _add_flag(group, name, kind, parameter.default, text)
    own = [action for action in parser._actions if not isinstance(action, argparse._AppendAction)]
    named = [action.dest for action in own]
    if repeated := {name for name in named if named.count(name) > 1}:
        raise TypeError(f"{parser.prog}: two arguments are named {min(repeated)!r}.")


def bind(parsed: argparse.Namespace) -> Callable[[], Any]:
    """Return a call of the function of a verb with the parsed arguments."""
    arguments, keywords = arguments_of(parsed.function, parsed)
    return functools.partial(parsed.function, *arguments, **keywords)


def arguments_of(
    function: Callable[..., Any], parsed: argparse.Namespace
) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the keyword arguments of a function, from its parsed namespace."""
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints.get(name)
        value = group_of(kind, parsed) if _is_group(kind) else _value(parsed, name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            arguments += value
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            arguments.append(value)
        else:
            keywords[name] = value
    return arguments, keywords


def add_group(parser: FlagParser, kind: type) -> None:
    """Add a group of flags to a parser, one for each field of a dataclass."""
    _add_fields(parser.add_argument_group(kind.__name__), kind)


def group_of(kind: Any, parsed: argparse.Namespace) -> Any:
    """Return the dataclass of a group of flags, from a parsed namespace."""
    fields = dataclasses.fields(kind)
    return kind(**{field.name: _value(parsed, field.name) for field in fields})


def _is_group(kind: Any) -> TypeGuard[type]:
    """Return True for a dataclass: its fields are flags."""
    return dataclasses.is_dataclass(kind)


def _value(parsed: argparse.Namespace, name: str) -> Any:
    value = getattr(parsed, name)
    return tuple(value) if isinstance(value, list) else value


def parse(
    function: Callable[..., Any],
    parser: FlagParser,
    arguments: Sequence[str],
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, Any], argparse.Namespace]:
    """Return the keyword arguments for a function, and the parsed namespace.

    Values of `--preset` replace the defaults, those of the file of `--config` replace both, and
    the command line replaces all.

    Args:
        function, parser: as for `make_parser`.
        arguments: the command line.
        presets: settings of each preset by its name.

    Raises:
        InputError: a flag is unknown, a value has the wrong type or is not one of the choices, or
            the settings file cannot be read.
    """
    names = list(inspect.signature(function).parameters)
    first = FlagParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    if presets:
        first.add_argument("--preset", choices=presets)
    chosen = first.parse_known_args(arguments)[0]
    given: list[str] = []
    if presets and chosen.preset:
        preset = presets[chosen.preset]
        given += _as_arguments(f"--preset {chosen.preset}", preset, parser, names)
    if chosen.config:
        given += _as_arguments(chosen.config, read_settings(chosen.config), parser, names)
    parsed = parser.parse_args([*given, *arguments])
    return arguments_of(function, parsed)[1], parsed


def read_settings(file: str | Path) -> dict[str, Any]:
    """Return the settings in a YAML or JSON file, such as the `settings.json` of a run.

    Raises:
        InputError: the file is missing, larger than 1 MiB, or not a table of names and values.
    """
    import yaml

    path = Path(file)
    try:
        if path.stat().st_size > _MAX_SETTINGS_BYTES:
            raise InputError(
                f"{path} is larger than any file of settings (1 MiB).\n"
                "  Name a YAML or JSON file, such as runs/<name>/settings.json of an earlier run."
            )
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
    """Return the value of a JSON or YAML text; raise a ValueError or YAMLError if it is neither."""
    import yaml

    try:
        return json.loads(text)
    except ValueError:
        if len(text) > _MAX_YAML:
            raise ValueError(f"a text of more than {_MAX_YAML:,} characters must be JSON") from None
        return yaml.safe_load(text)


def _as_arguments(
    where: str, settings: Mapping[str, Any], parser: FlagParser, names: Sequence[str]
) -> list[str]:
    """Return settings as arguments of a command line that the parser accepts.

    Raises:
        InputError: a setting is unknown, or its value is refused.
    """
    arguments = []
    for key, value in settings.items():
        name = str(key).replace("-", "_")
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            hint = f"The nearest is {nearest[0]!r}." if nearest else f"See: {parser.prog} --help"
            raise InputError(f"{where}: there is no setting {key!r}.\n  {hint}")
        _check_value(f"{where}, {key}", value)
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
            raise InputError(f"{where}, {key}: {error}") from error
        arguments += argument
    return arguments


def _check_value(where: str, value: Any) -> None:
    """Raise an InputError unless a setting is a value, or a list of values, for a command line."""
    values = value if isinstance(value, list) else [value]
    if any(isinstance(item, list | dict | set | bytes) for item in values):
        raise InputError(f"{where}: this is a table, or a list in a list.\n  Expected a value.")
    for text in values:
        if isinstance(text, str) and ("\0" in text or re.search("[\ud800-\udfff]", text)):
            raise InputError(
                f"{where}: the text has a NUL character or a lone surrogate.\n  Remove it."
            )


class _Description(NamedTuple):
    """The description of a parameter: its section, the placeholder of its value, and its text."""

    section: str = ""
    metavar: str | None = None
    text: str = ""


def _add_positional(
    group: Any, parameter: inspect.Parameter, kind: Any, text: _Description
) -> None:
    """Add the argument of one parameter that has no flag."""
    kind, _ = _without_none(kind)
    options: dict[str, Any] = {"metavar": text.metavar or parameter.name.upper()}
    if parameter.kind is parameter.VAR_POSITIONAL:
        options |= {"nargs": "*", "default": []}
    elif _is_sequence(kind):
        kind = typing.get_args(kind)[0]
        options["nargs"] = "+"
    elif parameter.default is not parameter.empty:
        options |= {"nargs": "?", "default": parameter.default}
    if typing.get_origin(kind) is typing.Literal:
        options["choices"] = typing.get_args(kind)
        kind = type(options["choices"][0])
    convert = _path if kind is Path else kind
    group.add_argument(parameter.name, type=convert, help=text.text.replace("%", "%%"), **options)


def _add_fields(group: Any, kind: type) -> None:
    """Add the flags of the fields of a dataclass."""
    described: dict[str, _Description] = {}
    for base in reversed(kind.__mro__[:-1]):
        described |= _describe(base)
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        text = described.get(field.name, _Description())
        _add_flag(group, field.name, hints[field.name], field.default, text)


def _add_named(group: Any, name: str, choice: str, text: _Description) -> None:
    """Add the flag of one choice of a parameter that holds pairs of a choice and a value."""
    group.add_argument(
        f"--{choice}",
        dest=name,
        action="append",
        type=lambda value: (choice, value),
        default=[],
        metavar=text.metavar or "TEXT",
        help=text.text.replace("%", "%%"),
    )


def _add_flag(group: Any, name: str, kind: Any, default: Any, described: _Description) -> None:
    """Add the flag of one parameter to a group of a parser."""
    flag, text = "--" + name.replace("_", "-"), described.text
    if kind is bool:
        text = (f"{text} [on]" if default else text) or " "
        action = "store_true" if name.startswith("no_") else argparse.BooleanOptionalAction
        group.add_argument(flag, action=action, default=default, help=text)
        return
    options: dict[str, Any] = {"default": default}
    if default in (inspect.Parameter.empty, dataclasses.MISSING):
        options = {"required": True}
    elif default not in (None, "", ()):
        is_large = isinstance(default, float) and default >= _LARGE
        text = f"{text} [{default:g}]" if is_large else f"{text} [{default}]"
    kind, optional = _without_none(kind)
    if _is_sequence(kind):
        kind, optional = typing.get_args(kind)[0], False
        options |= {"action": "append", "default": []}
    if typing.get_origin(kind) is typing.Literal:
        options["choices"] = [choice for choice in typing.get_args(kind) if choice is not None]
        kind, optional = type(options["choices"][0]), False
        options["metavar"] = described.metavar  # else the choices
    elif described.metavar or kind not in (int, float, str, Path):
        options["metavar"] = described.metavar or "VALUE"
    else:
        options["metavar"] = _METAVARS[kind]
    if optional:
        kind = _optional(kind, default)
    elif "required" in options and kind is Path:
        kind = _path
    group.add_argument(flag, type=kind, help=text.replace("%", "%%"), **options)


def _without_none(kind: Any) -> tuple[Any, bool]:
    """Return the first type of a union that is not None, or its sequence; and True for a union."""
    if not (isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union):
        return kind, False
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    return next(filter(_is_sequence, parts), parts[0]), True


def _is_sequence(kind: Any) -> bool:
    """Return True for `Sequence[str]` and the like."""
    origin = typing.get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Sequence)


def _named_choices(kind: Any) -> tuple[str, ...]:
    """Return the choices of `Sequence[tuple[Literal[choices], value]]`; () for other types."""
    if not _is_sequence(kind):
        return ()
    first, *_ = *typing.get_args(typing.get_args(kind)[0]), None
    return typing.get_args(first) if typing.get_origin(first) is typing.Literal else ()


def _path(text: str) -> Path:
    """Return the path in a text; raise if the text is empty."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file")
    return Path(text)


def _optional(kind: type, default: Any) -> Callable[[str], Any]:
    """Return a conversion of a text to `kind`; an empty text gives the default."""

    def convert(text: str) -> Any:
        return kind(text) if text else default

    convert.__name__ = kind.__name__  # argparse names it in its message
    return convert


def _describe(documented: Callable[..., Any] | type) -> dict[str, _Description]:
    """Return the description of each parameter or field in a docstring."""
    described = {}
    for meta in _documentation(documented).meta:
        if meta.args and (found := _NAMED.fullmatch(meta.args[-1])):
            text = " ".join((meta.description or "").split())
            described[found["name"]] = _Description(meta.args[0], found["metavar"], text)
    return described


def _documentation(function: Callable[..., Any] | type) -> docstring_parser.Docstring:
    """Return the parsed docstring of a function or class, in the form of Google's style guide."""
    groups = [Section(title, title, SectionType.MULTIPLE) for title in GROUPS]
    return GoogleParser([*DEFAULT_SECTIONS, *groups]).parse(function.__doc__ or "")
