"""Presets: settings of a recipe that have a name."""

import re
from pathlib import Path

import pytest

from tfx_transformer import cli, resources
from tfx_transformer.errors import InputError
from tfx_transformer.flag_parser import make_parser, parse
from tfx_transformer.presets import PRESETS, presets_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "quality.md"


def parsed(recipe: str, *arguments: str) -> dict:
    """The settings of a recipe's command line."""
    main = cli.recipe_main(str(resources.recipe_path(recipe)))
    parser = make_parser(main, recipe)
    parser.add_argument("--config")
    known = {name: preset.settings for name, preset in presets_of(recipe).items()}
    parser.add_argument("--preset", choices=known)
    return parse(main, parser, arguments, known)[0]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_gives_its_settings_and_no_others(preset):
    before, after = (parsed(preset.recipe, *flags) for flags in ((), ("--preset", preset.name)))
    changed = {name: value for name, value in after.items() if value != before[name]}
    assert changed.items() <= preset.settings.items()
    assert {name: after[name] for name in preset.settings} == dict(preset.settings)
    # A preset is for anybody's data, and leaves what names a run alone.
    free = {"seed", "name", "overwrite", "log", "example", "minutes", "save_minutes"}
    assert not free & preset.settings.keys()
    assert not [value for value in preset.settings.values() if "/" in str(value)]


def test_a_file_replaces_a_preset_and_flags_replace_both(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 3\ndropout: 0.4\n", encoding="utf-8")
    flags = ("--dropout", "0.5", "--preset=tatoeba", "--config", str(file))
    found = parsed("translation", *flags)
    assert (found["epochs"], found["dropout"], found["size"]) == (3, 0.5, "small")


def test_a_wrong_name_lists_the_presets():
    with pytest.raises(InputError, match="--preset: invalid choice: 'nmt'.*tatoeba.*multi30k"):
        parsed("translation", "--preset", "nmt")


def test_help_and_the_page_list_every_preset(command):
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
    page = PAGE.read_text(encoding="utf-8")
    for recipe in sorted({preset.recipe for preset in PRESETS}):
        status, shown, _ = command("run", recipe, "--help")
        options = shown.partition("options:")[2]
        assert status == 0 and max(map(len, options.splitlines())) <= 80
        for name, preset in presets_of(recipe).items():
            assert f"{name}: {preset.purpose}" in re.sub(r"\s+", " ", shown)
            assert f"tfx-transformer run {recipe} --preset {name} " in page
            assert f"| `{name}` | `{recipe}` |" in page
    status, shown, _ = command("run", "tagging", "--help")
    assert status == 0 and "--preset" not in shown
