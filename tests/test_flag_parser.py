"""Flags made from a documented function: types, choices, groups, files of settings, messages."""

import argparse
import dataclasses
import json
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from tfx_transformer import cli, flags, resources
from tfx_transformer.cli.data import COLUMNS, Columns, Kind
from tfx_transformer.cli.models import FORMATS
from tfx_transformer.errors import InputError
from tfx_transformer.flag_parser import (
    GROUPS,
    FlagParser,
    Kinds,
    add_verb,
    bind,
    make_parser,
    parse,
    read_settings,
)


def bake(
    flour: Path | None = None,
    kind: Literal["rye", "wheat"] = "rye",
    grams: int = 500,
    salt: float = 0.02,
    shape: str = "",
    seeds: bool = True,
    cut: bool = False,
):
    """Bake a loaf.

    Data arguments:
        flour: File of flour, with a colon: and more
            on a second line.
        kind: Grain of the loaf.

    Training arguments:
        grams: Grams of flour; 100 % of it.
        salt: Share of salt.
        shape: Form of the loaf.
        seeds: Put seeds on top.
        cut: Cut it.
    """


DEFAULTS = {
    "flour": None,
    "kind": "rye",
    "grams": 500,
    "salt": 0.02,
    "shape": "",
    "seeds": True,
    "cut": False,
}


# 2^100 values to whoever writes them down.
BOMB = "shape:\n- &a0 [x]\n" + "".join(f"- &a{i + 1} [*a{i}, *a{i}]\n" for i in range(100))


def parsed(*arguments):
    parser = make_parser(bake, "bake")
    parser.add_argument("--config")
    return parse(bake, parser, arguments)[0]


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ([], {}),
        (["--flour", "a b.csv"], {"flour": Path("a b.csv")}),
        (["--flour", ""], {"flour": None}),
        (["--kind=wheat", "--grams", "7"], {"kind": "wheat", "grams": 7}),
        (["--salt", "1e-3", "--shape=-"], {"salt": 0.001, "shape": "-"}),
        (["--no-seeds", "--cut"], {"seeds": False, "cut": True}),
        (["--grams", "3", "--grams", "5"], {"grams": 5}),
    ],
)
def test_flags_become_typed_arguments(arguments, changed):
    assert parsed(*arguments) == DEFAULTS | changed


def test_help_has_groups_sentences_and_defaults():
    text = make_parser(bake, "bake").format_help()
    assert text.index("\nData:\n") < text.index("--flour PATH") < text.index("\nTraining:\n")
    assert "File of flour, with a colon: and more on a second line." in " ".join(text.split())
    assert "Grams of flour; 100 % of it. [500]" in text
    assert "{rye,wheat}" in text and "[rye]" in text
    assert "--seeds, --no-seeds" in text and "[on]" in text
    assert "[]" not in text and "[None]" not in text and "[False]" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grams", "many"], "--grams is 'many'.\n  Expected a whole number. See: bake --help"),
        (["--kind", "oat"], "argument --kind: invalid choice: 'oat'"),
        (["--gram", "3"], "unrecognized arguments: --gram 3.\n  The nearest flag is --grams."),
        (["--grams"], "argument --grams: expected one argument"),
    ],
)
def test_a_wrong_flag_is_named(arguments, message):
    with pytest.raises(InputError, match="^argument|^unrecognized|^--grams is") as caught:
        parsed(*arguments)
    assert str(caught.value).startswith(message)


def test_a_file_of_settings_is_replaced_by_flags(tmp_path):
    (tmp_path / "s.yaml").write_text("grams: 11\nseeds: false\nflour:\nshape: '01'\nsalt: 1e-3\n")
    config = f"--config={tmp_path / 's.yaml'}"
    read = {"grams": 11, "seeds": False, "shape": "01", "salt": 0.001}
    assert parsed(config) == DEFAULTS | read
    assert parsed("--grams", "13", config) == DEFAULTS | read | {"grams": 13}
    settings = {"kind": "wheat", "flour": "x.csv", "cut": True}
    (tmp_path / "s.json").write_text(json.dumps(settings))
    found = parsed("--config", str(tmp_path / "s.json"))
    assert found == DEFAULTS | settings | {"flour": Path("x.csv")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gramms: 3", "there is no setting 'gramms'.\n  The nearest is 'grams'."),
        ("grams: many", "grams: --grams is 'many'"),
        ("kind: oat", "kind: argument --kind: invalid choice: 'oat'"),
        ("- 3", "holds list"),
        ("a: [", "is neither YAML nor JSON"),
        ("a: !!python/object/apply:os.getcwd []", "is neither YAML nor JSON"),
        ('shape: "a\\0b"', "s.yaml, shape: the text has a NUL character"),
        ('{"shape": "\\ud800"}', "s.yaml, shape: the text has a NUL character or a lone"),
        ("shape: {a: 1}", "s.yaml, shape: this is a table, or a list in a list"),
        (BOMB, "s.yaml, shape: this is a table, or a list in a list"),
        ("shape: [" + "x," * 40_000 + "x]", "a text of more than 65,536 characters must be JSON"),
        ("x" * 1024 * 1025, "larger than any file of settings"),
    ],
)
def test_a_wrong_file_of_settings_is_named(tmp_path, text, message):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        parsed("--config", str(file))
    assert str(file) in str(caught.value) and message in str(caught.value)


def test_a_long_list_of_settings_is_read_as_json(tmp_path):
    shape = [f"{number:09}.txt" for number in range(20_000)]
    (tmp_path / "s.json").write_text(json.dumps({"shape": shape}, indent=1))
    assert parsed("--config", str(tmp_path / "s.json"))["shape"] == ",".join(shape)


def test_a_missing_file_of_settings_is_named():
    with pytest.raises(InputError, match="nowhere.yaml cannot be read"):
        read_settings("nowhere.yaml")


@pytest.mark.parametrize("path", resources.recipes(), ids=lambda path: path.stem)
def test_every_flag_of_a_recipe_is_a_sentence_in_a_group(path):
    parser = make_parser(cli.recipe_main(str(path)), path.stem)
    titles = {title.removesuffix(" arguments") for title in GROUPS}
    groups = [group for group in parser._action_groups[2:] if group._group_actions]
    assert {group.title for group in groups} == titles
    for action in (action for group in groups for action in group._group_actions):
        sentence = action.help.partition(" [")[0]
        assert len(sentence.split()) >= 2 and sentence.endswith("."), action.dest


@pytest.mark.parametrize("path", resources.recipes(), ids=lambda path: path.stem)
def test_the_settings_that_a_run_leaves_repeat_it(path, tmp_path):
    main = cli.recipe_main(str(path))
    parser = make_parser(main, path.stem)
    parser.add_argument("--config")
    settings, _ = parse(main, parser, ["--name=other", "--seed=3", "--overwrite"])
    (tmp_path / "settings.json").write_text(json.dumps(settings, default=str))
    assert parse(main, parser, ["--config", str(tmp_path / "settings.json")])[0] == settings


# Verbs


@dataclasses.dataclass(frozen=True)
class Oven:
    """The heat.

    Attributes:
        degrees: Degrees of the oven.
    """

    degrees: int = 220


@dataclasses.dataclass(frozen=True)
class SteamOven(Oven):
    """The heat and the steam.

    Attributes:
        steam (LITRES): Water.
        grid (SIGN): Grid, "." or ",".
    """

    steam: float | None = None
    grid: Literal[",", "."] | None = None


def order(
    shop: Path,
    kind: Literal["rye", "wheat"] = "rye",
    /,
    *loaves: str,
    until: str,
    oven: SteamOven,
    extras: Sequence[tuple[Literal["seed", "nut"], str]] = (),
    notes: Sequence[str] = (),
    no_salt: bool = False,
    sliced: bool = False,
):
    """Order loaves
    of bread.

    More about it.

    Args:
        shop: Folder of the shop.
        kind: Grain.
        loaves (LOAF): Names of loaves.
        until (TIME): Hour: that of the pick-up.
        oven: How it is baked.
        seed: Seed to add.
        nut (NUT): Nut to add.
        notes: Line to print.
        no_salt: Leave salt out.
        sliced: Cut it.
    """
    return locals()


def sell(loaf: str, counts: Sequence[int], /):
    """Sell a loaf."""
    return loaf, counts


def bakery():
    top = FlagParser(prog="bread")
    verbs = top.add_subparsers(required=True, metavar="VERB")
    made = [
        *add_verb(verbs, "order", order),
        *add_verb(verbs, "many", Kinds("Do.", {"sell": sell})),
    ]
    for level, parser in enumerate(made[1:]):
        flags.add_common_flags(parser, again=level > 0)
    return top


USUAL = {
    "loaves": (),
    "until": "7",
    "oven": SteamOven(),
    "extras": (),
    "notes": (),
    "no_salt": False,
    "sliced": False,
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a b", "wheat", "--until=7"], {}),
        (["a b", "wheat", "x", "-y", "--until=7"], None),
        (["--until=7", "a b", "wheat", "--", "x", "-y"], {"loaves": ("x", "-y")}),
        (["a b", "wheat", "x", "--until=7", "y", "z"], {"loaves": ("x", "y", "z")}),
        (["a b", "--until=7", "wheat", "x"], {"loaves": ("x",)}),
        (["a b", "wheat", "--until=7", "--notes=1", "--notes="], {"notes": ("1", "")}),
        (
            ["a b", "wheat", "--until=7", "--nut", "p", "--seed=q", "--nut=r"],
            {"extras": (("nut", "p"), ("seed", "q"), ("nut", "r"))},
        ),
        (["a b", "wheat", "--until=7", "--degrees=90"], {"oven": SteamOven(90)}),
        (["a b", "wheat", "--until=7", "--steam=1.5"], {"oven": SteamOven(steam=1.5)}),
        (["a b", "wheat", "--until=7", "--no-salt", "--sliced"], {"no_salt": True, "sliced": True}),
    ],
)
def test_arguments_of_a_verb_are_those_of_its_function(arguments, expected):
    if expected is None:
        with pytest.raises(InputError, match="unrecognized arguments: -y"):
            bakery().parse_args(["order", *arguments])
        return
    found = bind(bakery().parse_args(["order", *arguments]))()
    assert found == {"shop": Path("a b"), "kind": "wheat"} | USUAL | expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["order"], "the following arguments are required: SHOP, --until"),
        (
            ["order", "a"],
            "the following arguments are required: --until.\n  See: bread order --help",
        ),
        (["order", "", "--until=7"], "argument SHOP: expected the name of a file"),
        (["order", "a", "oat", "--until=7"], "argument KIND: invalid choice: 'oat'"),
        (["order", "a", "--until=7", "oat"], "argument KIND: invalid choice: 'oat'"),
        (["many", "sell", "rye", "1", "--json", "2"], "unrecognized arguments: 2"),
        (["order", "a", "--until=7", "--degree"], "expected one argument"),
        (["order", "a", "--until=7", "--salted"], "The nearest flag is --sliced. See: bread order"),
        (["order", "a", "--until=7", "--grid=;"], "argument --grid: invalid choice: ';'"),
        (["order", "a", "--until=7", "--steam=x"], "--steam is 'x'.\n  Expected a number"),
        (["many", "sell", "rye", "1", "x"], "COUNTS is 'x'"),
        (["many", "sell", "rye"], "the following arguments are required: COUNTS"),
        (["many"], "the following arguments are required: KIND"),
        (["eat"], "invalid choice: 'eat'"),
    ],
)
def test_wrong_arguments_of_a_verb_are_named(arguments, message):
    with pytest.raises(InputError) as caught:
        bakery().parse_args(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["many", "sell", "rye", "2", "3"], (False, False)),
        (["many", "--json", "sell", "rye", "2", "3"], (True, False)),
        (["many", "--debug", "sell", "rye", "--json", "2", "3"], (True, True)),
        (["many", "--debug", "sell", "--json", "rye", "2", "3"], (True, True)),
    ],
)
def test_common_flags_may_be_before_a_kind_and_behind_it(arguments, chosen):
    parsed = bakery().parse_args(arguments)
    assert (parsed.json, parsed.debug) == chosen
    assert bind(parsed)() == ("rye", (2, 3))


def test_help_of_a_verb(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        bakery().parse_args(["order", "--help"])
    shown = capsys.readouterr().out
    usage = "usage: bread order SHOP [KIND] [LOAF ...] --until TIME [--flag value ...]\n"
    assert shown.startswith(f"{usage}\nOrder loaves of bread.\n\n")
    lines = " ".join(shown.split())
    assert "--until TIME Hour: that of the pick-up." in lines
    assert "--seed TEXT Seed to add. --nut NUT Nut to add." in lines
    assert "Oven: How it is baked. --degrees N Degrees of the oven. [220]" in lines
    assert lines.endswith('--steam LITRES Water. --grid SIGN Grid, "." or ",".')


def test_two_arguments_of_one_name_are_a_fault():
    def bad(degrees: int, /, *, oven: Oven): ...

    with pytest.raises(TypeError, match="two arguments are named 'degrees'"):
        add_verb(FlagParser(prog="bread").add_subparsers(), "bad", bad)


def flags_of(name, parser):
    """Yield every argument of a verb and of the kinds below it: (verb, argument)."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for kind, below in action.choices.items():
                yield from flags_of(f"{name} {kind}".strip(), below)
        elif action.help != argparse.SUPPRESS:
            yield name, action


def test_every_argument_of_a_verb_is_explained():
    silent = [
        f"{verb}: {action.dest}"
        for verb, action in flags_of("", cli.parser())
        if len((action.help or "").partition("[")[0].split()) < 2
    ]
    assert not silent


def test_columns_and_formats_are_those_of_their_tables():
    assert set(typing.get_args(Kind)) == COLUMNS.keys()
    named = {field.name for field in dataclasses.fields(Columns)}
    assert named == {name for columns in COLUMNS.values() for name in columns}
    texts = {
        action.dest: action.help for name, action in flags_of("", cli.parser()) if name == "export"
    }
    assert all(name in texts["to"] for name in FORMATS)
