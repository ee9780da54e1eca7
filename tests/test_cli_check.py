"""The verb check: what kind of data it takes a file for, and which commands it proposes."""

import csv
import json
import shlex

import pytest
from PIL import Image

from tfx_transformer.cli.propose import commands, describe_columns

MAILS = [
    (n, f"Message number {n} is about {('a bill', 'a party')[n % 2]}, dear friend.",
     ("work", "private")[n % 2])
    for n in range(30)
]  # fmt: skip


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a CSV file into the folder that commands run in."""
    monkeypatch.chdir(tmp_path)

    def write_table(header, rows, name="my.csv"):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return tmp_path / name

    return write_table


@pytest.fixture
def answer(command):
    def run(*arguments):
        status, output, errors = command(*arguments, "--json")
        assert status == 0, errors
        return json.loads(output)

    return run


@pytest.fixture
def refused(command):
    def run(*arguments):
        status, output, errors = command(*arguments)
        assert (status, output) == (2, ""), errors
        return errors

    return run


# Kinds


def test_flags_imply_the_kind(write, answer, refused):
    write(["id", "text", "categorie"], MAILS)
    counts = answer("check", "my.csv", "--label", "categorie")
    assert counts["labels"] == {"private": 15, "work": 15}
    write(["id", "body", "categorie"], MAILS)
    assert answer("check", "my.csv", "--label=categorie", "--text=body")["rows"] == 30
    errors = refused("check", "my.csv", "--label", "categorie")
    assert "there is no column 'text'" in errors and "source" not in errors
    assert answer("check", "my.csv", "--source=body", "--target=categorie")["source_tokens"]
    assert answer("check", "my.csv", "--instruction=body", "--output=categorie")["loss_tokens"]
    assert "blocks" in answer("check", "my.csv", "--column=body", "--max-length=8")
    assert answer("check", "my.csv", "--first=body", "--second=categorie")["rows"] == 30


def test_flags_of_different_kinds(write, refused):
    write(["id", "text", "label"], MAILS)
    errors = refused("check", "my.csv", "--label=label", "--source=text")
    assert errors.startswith("--label, --source name columns of different kinds of data.")
    errors = refused("check", "my.csv", "--kind=pairs", "--label=label")
    assert errors.startswith("--label names no column of pairs.")


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (["source", "target"], "source_tokens"),
        (["instruction", "output"], "loss_tokens"),
        (["prompt", "completion"], "loss_tokens"),
        (["text", "label"], "labels"),
        (["sentence1", "sentence2"], "rows"),
    ],
)
def test_the_header_tells_the_kind(write, answer, header, key):
    write(header, [(f"a {n} b", f"c {n % 3} d") for n in range(9)])
    assert key in answer("check", "my.csv")


def test_a_column_with_commas_and_blanks_in_its_name(write, answer, refused):
    rows = [("the cat", "b", "x", "one"), ("a dog", "b", "y", "two"), ("a bird", "b", "z", "one")]
    write(["title, short", " body ", "title", "my label"], rows)
    label = ("--label", "my label")
    assert answer("check", "my.csv", "--text=title, short", *label)["columns"]["text"] == (
        '["title, short"]'
    )
    assert answer("check", "my.csv", "--text= body ", *label)["rows"] == 3
    several = json.dumps(["title, short", " body "])
    assert answer("check", "my.csv", "--text", several, *label)["columns"]["text"] == several
    assert "no column 'short'" in refused("check", "my.csv", "--text=title,short", *label)


def test_labels_that_may_be_the_same_are_a_warning(write, command, answer):
    write(["text", "label"], [("a", "1"), ("b", "1.0"), ("c", "2"), ("d", "x"), ("e", "X")])
    assert answer("check", "my.csv")["alike"] == [["1", "1.0"], ["X", "x"]]
    output = command("check", "my.csv")[1]
    assert "WARNING   labels that may be the same: '1' and '1.0'; 'X' and 'x'" in output
    write(["text", "label"], [("a", " 1"), ("b", "2")])
    assert "WARNING" not in command("check", "my.csv")[1]


# Folders


def test_folders(tmp_path, answer, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (5, 7), label == "cat" and "red" or "blue").save(
            tmp_path / "photos" / label / "1.png"
        )
    assert answer("check", "photos")["labels"] == {"cat": 1, "dog": 1}
    (tmp_path / "corpus" / "deep").mkdir(parents=True)
    (tmp_path / "corpus" / "deep" / "a.txt").write_text("The cat sat on the mat. " * 40)
    counts = answer("check", "corpus", "--max-length=8")
    assert (counts["files"], counts["documents"], counts["bytes"]) == (1, 1, 24 * 40)
    assert answer("check", "corpus/deep/a.txt", "--max-length=8")["bytes"] == 24 * 40
    (tmp_path / "empty").mkdir()
    assert refused("check", "empty").startswith("empty: this is a folder. ")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert "model is a model, not data.\n  What it is: tfx-transformer info model" in refused(
        "check", "model"
    )


# Proposals


def test_without_flags_the_columns_are_listed_and_a_command_proposed(write, command, answer):
    write(["id", "the body", "categorie"], MAILS)
    status, output, errors = command("check", "my.csv")
    assert (status, errors) == (0, "")
    assert "'the body': 30 different, 30 filled: Message number 0 is about a b…" in output
    proposed = "tfx-transformer run text_classification --csv my.csv --text 'the body'"
    assert f"  {proposed} --label categorie\n" in output
    checked = "tfx-transformer check my.csv --text 'the body' --label categorie"
    assert f"To check its rows:\n  {checked}\n" in output
    told = answer("check", "my.csv")
    assert told["commands"][0] == f"{proposed} --label categorie"
    assert [column["name"] for column in told["columns"]] == ["id", "the body", "categorie"]


@pytest.mark.parametrize(
    ("header", "rows", "flags"),
    [
        (
            ["English", "日本語"],
            [(f"I have {n} cats.", f"猫が{n}匹います。") for n in range(9)],
            ["translation", "--csv", "F", "--source", "English", "--target", "日本語"],
        ),
        (
            ["n", "Question", "Answer"],
            [(n, f"What is {n}?", f"It is the number {n}.") for n in range(9)],
            ["instruction_finetuning", "--csv", "F", "--instruction", "Question",
             "--output", "Answer"],
        ),
        (
            ["Prompt", "rejected", "chosen"],
            [(f"Is it {n}?", f"No, it is the number {n}.", f"Yes, it is {n}.") for n in range(9)],
            ["preference_finetuning", "--base", "saved_models/assistant", "--csv", "F",
             "--prompt", "Prompt", "--chosen", "chosen", "--rejected", "rejected"],
        ),
        (
            ["Request", "function", "args"],
            [(f"Wake me in {n} hours", "wake", f'{{"hours": {n}}}') for n in range(9)],
            ["tool_calling", "--csv", "F", "--tools", "tools.json", "--utterance", "Request",
             "--tool", "function", "--arguments", "args"],
        ),
        (
            ["s1", "s2", "score"],
            [(f"A cat {n} sat.", f"A dog {n} sat.", n / 2) for n in range(9)],
            ["embedding", "--csv", "F", "--first", "s1", "--second", "s2", "--score", "score"],
        ),
        (
            ["id", "body"],
            [(n, f"Once upon a time there were {n} cats.") for n in range(9)],
            ["pretraining", "--text", "F", "--column", "body"],
        ),
        (
            ["it's, so", "class"],
            [(f"Text number {n}", "ab"[n % 2]) for n in range(9)],
            ["text_classification", "--csv", "F", "--text", "it's, so", "--label", "class"],
        ),
    ],
)  # fmt: skip
def test_the_first_proposal(write, header, rows, flags):
    path = write(header, rows)
    first = commands(path, describe_columns(path))[0]
    expected = ["tfx-transformer", "run", *(str(path) if flag == "F" else flag for flag in flags)]
    assert shlex.split(first) == expected


def test_nothing_to_train_on(write, command):
    write(["x", "y"], [(n, n / 2) for n in range(9)])
    status, output, _ = command("check", "my.csv")
    assert status == 0 and "No column looks right to train on" in output


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (("offer", "price"), ("A {i} cup of clay", "{n}.5"), "--text offer --target price"),
        (("id", "body", "delay"), ("{i}", "Train {i} left", "{n}"), "--text body --target delay"),
    ],
)
def test_texts_with_numbers_are_proposed_for_regression(write, header, row, expected):
    path = write(header, [[c.format(i=i, n=i % 23) for c in row] for i in range(60)])
    found = commands(path, describe_columns(path))
    assert any(f"run text_regression --csv {path} {expected}" in command for command in found)


def test_numbers_are_checked_with_their_columns(write, answer):
    values = answer("check", write(("text", "target"), [("a cup", "3"), ("a lamp", "4.5")]))
    assert values["mean"] == 3.75 and values["columns"]["target"] == "target"


def test_a_decimal_comma_is_asked_for(write, command):
    path = write(("text", "price"), [("a cup", "3,5"), ("a lamp", "4,5")])
    given = ("check", path, "--kind", "numbers", "--target", "price")
    status, _, errors = command(*given)
    assert status == 2 and "--decimal , reads '3,5' as 3.5" in errors
    status, output, _ = command(*given, "--decimal", ",")
    assert status == 0 and "3.50 to 4.50" in output
