"""Recipes and data sets are found in a checkout and in an installed wheel."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tfx_transformer import resources
from tfx_transformer.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def test_a_checkout_finds_its_own_files():
    assert resources.recipe_path("translation") == ROOT / "recipes" / "translation.py"
    assert resources.dataset_path("en_ja.csv") == ROOT / "datasets" / "en_ja.csv"
    assert resources.recipes() == sorted((ROOT / "recipes").glob("*.py"))


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (
            resources.recipe_path,
            "translaton",
            "There is no recipe 'translaton'.\n  The nearest is 'translation'.",
        ),
        (
            resources.dataset_path,
            "en_jp.csv",
            "There is no data set 'en_jp.csv'.\n  The nearest is 'en_ja.csv'.",
        ),
    ],
)
def test_a_missing_name_is_answered_with_the_nearest(find, name, message):
    with pytest.raises(InputError) as caught:
        find(name)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["", ".", "..", "../LICENSE", "/etc/passwd", "translation.py"])
def test_only_listed_names_are_found(name):
    with pytest.raises(InputError):
        resources.recipe_path(name)
    with pytest.raises(InputError):
        resources.dataset_path(name)


def test_a_package_without_its_files_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "tfx_transformer")
    with pytest.raises(InputError, match="No recipe is installed"):
        resources.recipe_path("translation")


def test_the_wheel_carries_recipes_and_datasets(tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    built = subprocess.run(
        [*command, "--no-index", "--quiet", "--wheel-dir", tmp_path, ROOT],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")

    package = {f"tfx_transformer/{p}" for p in _files(ROOT / "tfx_transformer")}
    recipes = {f"tfx_transformer/_recipes/{p}" for p in _files(ROOT / "recipes")}
    datasets = {f"tfx_transformer/_datasets/{p}" for p in _files(ROOT / "datasets")}
    assert {name for name in names if ".dist-info/" not in name} == package | recipes | datasets
    assert [name for name in names if name.endswith("/licenses/LICENSE")]

    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tfx_transformer.resources import dataset_path, recipe_path\n"
            "print(recipe_path('translation'), dataset_path('en_ja.csv'), sep='\\n')",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    installed = tmp_path.resolve() / "installed" / "tfx_transformer"
    assert found.stdout.splitlines() == [
        str(installed / "_recipes" / "translation.py"),
        str(installed / "_datasets" / "en_ja.csv"),
    ]


def _files(folder: Path) -> set[str]:
    """All files that belong to the project; Python leaves compiled ones beside them."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files if path.suffix != ".pyc"}
