"""The folder of a run: only what a run wrote is removed, and what makes two trainings the same."""

import json
import os
import shutil
from pathlib import Path
from typing import Literal

import pytest

from tfx_transformer import cli
from tfx_transformer.errors import InputError
from tfx_transformer.training import Run
from tfx_transformer.training.folder import check_name
from tfx_transformer.training.identity import Identity

INTERRUPTED = Path(__file__).parent / "faults" / "interrupted"

# What a run leaves that has not trained.
LEFT = {"files.json", "report.html", "result.json", "run.json", "settings.json"}


def tree(path):
    """Every file below a folder and what it holds."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def put(path, text="of the user"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


# Names


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../a", "a\\b", "/etc", ".hidden", "a:b", "a\nb", "a\x1b[31m", "\x7f"]
    + [
        "nul",
        "CON.txt",
        "Com1",
        "lpt9.tar.gz",
        "a.",
        "a b",
        " a",
        "a\u3000b",
        "a\u202eb",
        "a\udc80",
        "a\0",
        "~/",
        "é" * 101,
        3,
        None,
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    put(tmp_path / "runs" / "thesis.txt")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="cannot be a folder's name|too long"):
        Run(name, {}, root=tmp_path / "runs")
    assert tree(tmp_path) == before and os.listdir(tmp_path / "runs") == ["thesis.txt"]


def test_a_folder_given_as_the_name_is_left_alone(tmp_path):
    put(tmp_path / "thesis.txt")
    with pytest.raises(InputError, match="cannot be a folder's name"):
        Run(str(tmp_path), {"overwrite": True})
    assert tree(tmp_path) == {"thesis.txt": b"of the user"}


@pytest.mark.parametrize(
    "name", ["en_ja-2", "日本語", "a.b", "é" * 100, "console", "null", "com10"]
)
def test_names_that_are_good(name):
    check_name(name)


# What is removed


def finished_run(root, overwrite=False):
    run = Run("r", {"overwrite": overwrite, "epochs": 3}, root=root)
    run._record.result({})
    run.close({})
    return run


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_the_user_put_there_stays(tmp_path, overwrite):
    finished_run(tmp_path)
    mine = {"notes.txt", "loss.png.bak", "figures/one.png", "checkpoints/best/mine.bin", ".draft"}
    for name in mine:
        put(tmp_path / "r" / name)
    (tmp_path / "r" / ".result.json.123-0123abcd.tmp").write_text("half")
    finished_run(tmp_path, overwrite)
    assert tree(tmp_path / "r").keys() == mine | LEFT
    run = Run("r", {"overwrite": overwrite}, root=tmp_path)
    assert not (tmp_path / "r" / "result.json").exists(), "of the run before"
    run.close({})


def test_of_an_earlier_version_only_known_names_go(tmp_path):
    for name in ("settings.json", "metrics.csv", "training.bin", "my_notes.csv", "old.png"):
        put(tmp_path / "r" / name, "{}")
    Run("r", {"epochs": 3}, root=tmp_path)
    left = {"settings.json", "files.json", "my_notes.csv", "old.png", "lock"}
    assert tree(tmp_path / "r").keys() == left


@pytest.mark.parametrize("name", ["metrics.csv", "training.bin", "settings.json/a"])
def test_a_file_that_no_run_wrote_is_never_replaced(tmp_path, name):
    put(tmp_path / "r" / name)
    with pytest.raises(InputError, match="was not written by a run"):
        Run("r", {"overwrite": True}, root=tmp_path)
    assert tree(tmp_path) == {f"r/{name}": b"of the user"}
    (tmp_path / "r" / name).rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "r")
    finished_run(tmp_path)
    put(tmp_path / "r" / "classes.csv")
    with pytest.raises(InputError, match="was not written by a run"):
        finished_run(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{",
        '{"files": 3}',
        '{"files": ["../thesis.txt", "lock", "..", "", "a/b", 7, null]}',
        '{"files": ["/etc/passwd", ".", "checkpoints", "figures"]}',
    ],
)
def test_a_manifest_may_hold_anything(tmp_path, manifest):
    put(tmp_path / "thesis.txt")
    finished_run(tmp_path)
    put(tmp_path / "r" / "figures" / "one.png")
    put(tmp_path / "r" / "a" / "b")
    put(tmp_path / "r" / "checkpoints" / "mine")
    if "../" in manifest or "etc" in manifest:  # then what is there was not written by a run
        for name in ("settings.json", "result.json", "run.json"):
            (tmp_path / "r" / name).unlink()
    (tmp_path / "r" / "files.json").write_text(manifest)
    finished_run(tmp_path)
    kept = {"thesis.txt", "r/figures/one.png", "r/a/b", "r/checkpoints/mine"}
    assert kept < tree(tmp_path).keys()


@pytest.mark.parametrize("manifest", ['{"name": "photos"}', '["a.jpg"]', "a.jpg"])
def test_a_manifest_of_the_user_stays(tmp_path, manifest):
    put(tmp_path / "r" / "files.json", manifest)
    with pytest.raises(InputError, match="files.json was not written by a run"):
        Run("r", {"overwrite": True}, root=tmp_path)
    assert tree(tmp_path) == {"r/files.json": manifest.encode()}


def test_links_are_removed_and_never_followed(tmp_path):
    put(tmp_path / "thesis.txt")
    finished_run(tmp_path)
    (tmp_path / "r" / "result.json").unlink()
    (tmp_path / "r" / "result.json").symlink_to(tmp_path / "thesis.txt")
    (tmp_path / "r" / "checkpoints").symlink_to(tmp_path)
    run = finished_run(tmp_path)
    run.checkpoints.clear()
    assert (tmp_path / "thesis.txt").read_text() == "of the user"
    assert not (tmp_path / "r" / "result.json").is_symlink()


def test_a_run_folder_may_be_a_link(tmp_path):
    (tmp_path / "big_disk").mkdir()
    put(tmp_path / "big_disk" / "thesis.txt")
    (tmp_path / "r").symlink_to("big_disk")
    for _ in range(2):
        finished_run(tmp_path)
    assert tree(tmp_path / "big_disk").keys() == LEFT | {"thesis.txt"}


# What makes two trainings the same


def recipe(
    csv: Path | None = None,
    base: str | Path = "",
    output: str = "output",
    size: Literal["a", "b"] = "a",
    turns: int = 3,
):
    """As recipes are."""


def before(identity, read=()):
    """What a checkpoint holds of it."""
    return {"settings": identity.settings, "files": identity.files(read), "model": ""}


def test_only_settings_that_are_paths_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my.csv", "output/x", "base/x", "a/x", "other.csv"):
        put(Path(name))
    settings = {"csv": Path("./my.csv"), "base": "base", "output": "output", "size": "a"}
    settings |= {"separator": "/", "text": "text"}
    identity = Identity(settings, recipe)
    first = before(identity, ["other.csv"])
    assert first["files"].keys() == {"my.csv", "base", "other.csv"}
    for name in ("output/y", "a/y", "text/y"):
        put(Path(name))
    assert identity.changes(first, identity.files(["other.csv"])) == []
    for name in ("my.csv", "base/y", "other.csv"):
        put(Path(name), "changed")
        changed = identity.changes(first, identity.files(["other.csv"]))
        assert f"{Path(name).parts[0]} has changed" in changed
    Path("my.csv").unlink()
    assert "my.csv has changed" in identity.changes(first, identity.files([]))


def test_paths_that_say_so_without_a_recipe(tmp_path):
    put(tmp_path / "my.csv")
    settings = {"csv": tmp_path / "my.csv", "output": str(tmp_path)}
    assert Identity(settings).files([]).keys() == {str(tmp_path / "my.csv")}


def test_several_paths_with_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b/c.txt", "d,e.txt"):
        put(Path(name))
    digests = Identity({"base": "a.txt, b,d,e.txt"}, recipe).files([])
    assert {path for path, digest in digests.items() if digest} == {"a.txt", "b"}
    assert Identity({"base": "d,e.txt"}, recipe).files([])["d,e.txt"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"csv": "./a.csv"}, {"csv": Path("a.csv")}, []),
        ({"csv": ""}, {"csv": None}, []),
        ({"csv": "a.csv"}, {"csv": None}, ["--csv was 'a.csv' and is None"]),
        ({}, {"turns": 3}, []),  # a version that had no such setting
        ({}, {"turns": 4}, ["--turns was 3 and is 4"]),
        ({"output": "./a"}, {"output": "a"}, ["--output was './a' and is 'a'"]),
        ({"base": "hf://a/b"}, {"base": "hf://a/b"}, []),
        ({"base": "hf://a/b"}, {"base": "hf://a/c"}, ["--base was 'hf://a/b' and is 'hf://a/c'"]),
        ({"minutes": 3}, {"minutes": 4, "name": "x"}, []),
        ({"base": "a", "case": "lower"}, {"base": "a", "case": ""}, []),  # it did nothing
        ({"case": "lower"}, {"case": "kept"}, ["--case was 'lower' and is 'kept'"]),
    ],
)
def test_settings_of_an_earlier_version(old, new, found):
    kept = {name: value for name, value in old.items() if name != "minutes"}
    assert Identity(new, recipe).changes({"settings": kept}) == found


def test_an_interrupted_run_of_the_first_version_goes_on(tmp_path, monkeypatch, capsys):
    """`interrupted/` was left by version 0.1, killed after 6 of 12 steps. There was a folder named
    `text`, as the setting text="text", and it counted as a file of the training."""
    shutil.copytree(INTERRUPTED, tmp_path / "work")
    (tmp_path / "work" / "runs").mkdir()
    (tmp_path / "work" / "old").rename(tmp_path / "work" / "runs" / "old")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("tfx_transformer.export.everything", lambda *_, **__: {})
    settings = json.loads(Path("runs/old/settings.json").read_text("utf-8"))
    put(Path("runs/old/notes.txt"))
    result = cli.recipe_main("text_classification")(**settings)
    assert "Goes on from epoch 2, step 3 of 3 (runs/old/checkpoints/step_6)." in (
        capsys.readouterr().out
    )
    assert result["training"]["epochs"] == 4
    assert Path("runs/old/notes.txt").is_file() and not Path("runs/old/checkpoints").exists()
    assert Path("saved_models/old/model.safetensors").is_file()


def test_the_interrupted_run_was_of_other_data(tmp_path, monkeypatch):
    shutil.copytree(INTERRUPTED / "old", tmp_path / "runs" / "old")
    shutil.copy(INTERRUPTED / "my.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    state = json.loads(Path("runs/old/checkpoints/step_6/config.json").read_text("utf-8"))
    settings = json.loads(Path("runs/old/settings.json").read_text("utf-8"))
    main = cli.recipe_main("text_classification")
    identity = Identity(settings, main)
    assert identity.changes(state, identity.files(["./my.csv"])) == []
    with Path("my.csv").open("a") as file:
        file.write("a horse,animal\n")
    assert identity.changes(state, identity.files([])) == ["my.csv has changed"]
    settings |= {"text": "title", "csv": "my.csv"}
    assert Identity(settings, main).changes(state) == ["--text was 'text' and is 'title'"]
