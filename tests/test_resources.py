"""Recipes and data sets are found in a checkout and in an installed wheel."""

import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from blocks import PAGES, blocks, write_datasets

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


def _build_wheel(folder: Path) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    built = subprocess.run(
        [*command, "--no-index", "--quiet", "--wheel-dir", folder, ROOT],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_carries_recipes_and_datasets(tmp_path):
    wheel = _build_wheel(tmp_path)
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


@pytest.mark.slow  # installs TensorFlow
def test_the_wheel_runs_readme_in_an_empty_environment(tmp_path):
    wheel, python = _build_wheel(tmp_path), tmp_path / "venv" / "bin" / "python"
    venv.create(tmp_path / "venv", with_pip=True)
    constraints = ["--constraint", ROOT / "constraints.txt"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    write_datasets(tmp_path / "datasets")
    pages = [blocks(page.read_text(encoding="utf-8")) for page in PAGES[:2]]
    shell = [block.code for block in pages[0] if block.language == "bash"]
    script = "\n".join(b.code for page in pages for b in page if b.language == "python")
    (tmp_path / "readme.py").write_text(script, encoding="utf-8")
    environment["PATH"] = os.pathsep.join([str(python.parent), environment["PATH"]])
    for command in (
        [python, "-m", "pip", "install", "--quiet", *constraints, wheel],
        [python, "-m", "pip", "check"],
        *(["bash", "-euo", "pipefail", "-c", code] for code in shell),
        [python, "readme.py"],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _files(folder: Path) -> set[str]:
    """All files that belong to the project; Python leaves compiled ones beside them."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files if path.suffix != ".pyc"}


def test_the_same_sources_make_the_same_run_pyz(tmp_path):
    from tfx_transformer.export.standalone import write_run_pyz

    write_run_pyz(tmp_path)
    with zipfile.ZipFile(tmp_path / "run.pyz") as archive:
        years = {entry.date_time[0] for entry in archive.infolist()}
    assert years <= {1999, 2000}, "by the clock of the place where it is made"
