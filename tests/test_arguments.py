"""Texts that look like files, and texts that do not."""

import pytest

from tfx_transformer.arguments import looks_like_file, refuse_files
from tfx_transformer.errors import InputError


@pytest.mark.parametrize(
    "name",
    [
        "mails.csv", "MAILS.CSV", "a.tsv", "data.xlsx", "x.jsonl", "notes.txt", "photo.HEIC",
        "photo.png", "cat.jpeg", "./mails", "../data/mails", "~/mails", "/tmp/mails", "C:\\mails",
        "C:/data/x", "/tmp/a/b", "data/mails.csv", "猫.png", "report.pdf",
    ],
)  # fmt: skip
def test_names_of_files(name):
    assert looks_like_file(name)
    with pytest.raises(InputError, match="--as-text"):
        refuse_files(["a text", name], "Use --csv.")
    refuse_files([name], "Use --csv.", as_text=True)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "I love cats.", "and/or", "/think", "A/B test", "Please open notes.txt", "3.14",
        "What is a .csv?", "https://example.com/cat.png", "e.g.", "node.js is fine", "km/h", "1/2",
        "first\nmails.csv", "x" * 5000 + ".csv", "a\0.csv", "猫が好きです。", "C: drive",
    ],
)  # fmt: skip
def test_texts(text):
    assert not looks_like_file(text)
    refuse_files([text], "Use --csv.")


def test_what_exists_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not looks_like_file("my mails")
    (tmp_path / "my mails").write_text("")
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="'my mails' looks like a file, and .*\n  Use --csv."):
        refuse_files(["my mails"], "Use --csv.")
    with pytest.raises(InputError, match="'photos' looks like a folder"):
        refuse_files(["photos"], "Use --csv.")


def test_an_image_is_named_as_one():
    with pytest.raises(InputError, match="'photo.HEIC'(.|\n)*reads texts, not images"):
        refuse_files(["photo.HEIC"], "Use --csv.")
