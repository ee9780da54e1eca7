"""Tables in memory are read as the same table in a file: same rows, guards, split and batches."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tfx_transformer import data
from tfx_transformer.data.contents import content_of
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.images import pixels_of
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import Run

SOURCES = ["a cat", "two dogs", "NA", "a cat", "null", "three, birds", "one fox"]
TARGETS = ["neko", "inu", "001", "neko", '"quoted"', "tori\ntori", "kitsune"]
LABELS = ["1", "0", "1", "1", "0", "0", "1"]
SCORES = ["0.5", "3", "5", "0", "1.25", "4", "2"]
TABLE = {"source": SOURCES, "target": TARGETS, "label": LABELS, "score": SCORES}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SOURCES + TARGETS, 300)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(TABLE)
        writer.writerows(zip(*TABLE.values(), strict=True))
    return path


def forms(*columns: str) -> list:
    """The table in every form in memory; of some all columns, of others those that are read."""
    frame = pd.DataFrame(TABLE)
    rows = list(zip(*(TABLE[column] for column in columns), strict=True))
    return [
        frame,
        frame.set_index(pd.Index(list("gfedcba"))),
        frame.set_index([frame["source"], [3, 1, 4, 1, 5, 9, 2]]),
        frame.astype("category"),
        frame.convert_dtypes(),
        TABLE,
        {name: np.array(column) for name, column in TABLE.items()},
        frame.to_dict("records"),
        rows,
        [list(row) for row in rows],
        np.array(rows),
    ]


def equal_batches(one, other) -> None:
    pairs = list(zip(one.as_numpy_iterator(), other.as_numpy_iterator(), strict=True))
    assert pairs
    for first, second in pairs:
        flat = [json.dumps(batch, default=np.ndarray.tolist) for batch in (first, second)]
        assert flat[0] == flat[1]


def test_pairs_are_those_of_the_file(file, tokenizer):
    expected = data.read_pairs(file)
    parts = [pairs.rows for pairs in data.split_pairs(expected, 0.4, seed=1)]
    for form in forms("source", "target"):
        read = data.read_pairs(form)
        assert (read.source, read.target) == (SOURCES, TARGETS)
        positions = {name: place for place, name in enumerate(read.rows)}
        split = data.split_pairs(read, 0.4, seed=1)
        if len(positions) == len(read):
            assert [[2 + positions[row] for row in part.rows] for part in split] == parts
        (summary,) = data.describe_pairs(read, None, tokenizer, 16)
        assert (summary.rows, summary.duplicates) == (7, 1)
    options = {"batch_size": 3, "max_length": 16, "seed": 5}
    equal_batches(
        data.pairs(expected, tokenizer, **options), data.pairs(read, tokenizer, **options)
    )


def test_labelled_texts_are_those_of_the_file(file, tokenizer):
    expected = data.read_labelled_texts(file, text="source,target")
    numbers = pd.read_csv(file, keep_default_na=False)  # its labels are integers
    assert pd.api.types.is_integer_dtype(numbers["label"])
    for form in [*forms("source", "target", "label"), numbers]:
        read = data.read_labelled_texts(form, text="source,target")
        assert (read.texts, read.labels) == (expected.texts, expected.labels)
    names = data.label_names(read.labels, read.path)
    options = {"batch_size": 3, "max_length": 16, "seed": 5}
    equal_batches(
        data.labelled_texts(expected, tokenizer, names, **options),
        data.labelled_texts(read, tokenizer, names, **options),
    )


def test_scored_pairs_are_those_of_the_file(file, tokenizer):
    columns = ("source", "target", "score")
    expected = data.read_sentence_pairs(file, *columns)
    numbers = pd.DataFrame(TABLE).assign(score=np.array(SCORES, float))
    for form in [*forms(*columns), numbers]:
        read = data.read_sentence_pairs(form, *columns)
        assert (read.first, read.second, read.scores) == (SOURCES, TARGETS, expected.scores)
        assert read.scale == (0, 5)
    equal_batches(
        data.sentence_pairs(expected, tokenizer, batch_size=3),
        data.sentence_pairs(read, tokenizer, batch_size=3),
    )


def test_a_corpus_is_that_of_the_file(file, tokenizer, tmp_path):
    texts = list(data.sample_texts(file, "target"))
    for form in forms("target"):
        if isinstance(form, np.ndarray) and form.shape[1:] != (1,):
            continue
        assert list(data.sample_texts(form, "target")) == texts == TARGETS
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    options = {"column": "target", "share": 0.3}
    expected = data.read_corpus(file, tokenizer, tmp_path / "a", **options)
    read = data.read_corpus(pd.DataFrame(TABLE), tokenizer, tmp_path / "b", **options)
    for one, other in zip(expected, read, strict=True):
        assert one.array().tolist() == other.array().tolist()
    with pytest.raises(InputError, match="which column holds the text.*\n.*'source', 'target'"):
        list(data.read_documents(pd.DataFrame(TABLE)))


def test_conversations_are_those_of_the_file(file, tmp_path):
    columns = {"instruction": "source", "output": "target"}
    expected = data.read_instructions(file, **columns)
    for form in forms("source", "target"):
        assert data.read_instructions(form, **columns).messages == expected.messages
    said = [{"role": "user", "content": "猫"}, {"role": "assistant", "content": "cat"}]
    chats = [{"messages": said}, {"prompt": "犬", "completion": "dog", "messages": None}]
    lines = tmp_path / "chats.jsonl"
    lines.write_text("\n".join(map(json.dumps, chats)), encoding="utf-8")
    expected = data.read_instructions(lines, system="Be brief.").messages
    frame = pd.DataFrame(chats, index=["one", "two"])
    parquet = frame.assign(messages=[np.array(said, object), None])
    for form in (chats, frame, parquet, {"messages": [said, None], "prompt": [None, "犬"],
                                         "completion": [float("nan"), "dog"]}):  # fmt: skip
        assert data.read_instructions(form, system="Be brief.").messages == expected


def test_instructions_may_be_tuples_with_an_input():
    read = data.read_instructions([("Translate.", "猫", "cat"), ("Hi", "", "Hello")])
    assert [m[0]["content"] for m in read.messages] == ["Translate.\n\n猫", "Hi"]
    with pytest.raises(InputError, match="^list, row 1: there is no key 'output'"):
        data.read_instructions([("Hi", "", "Hello"), ("Hi", "")])
    with pytest.raises(InputError, match="^DataFrame, row x: there is no key 'output'"):
        data.read_instructions(
            pd.DataFrame({"instruction": ["a", "b"], "output": ["c", None]}, index=["w", "x"])
        )


PICTURES = [np.full((3, 5, 3), shade, "uint8") for shade in (0, 80, 160, 240)]
KINDS = ["dark", "dark", "light", "light"]


def test_images_are_those_of_the_files(tmp_path):
    names = [f"{number}.png" for number in range(4)]
    for name, pixels in zip(names, PICTURES, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    pd.DataFrame({"path": names, "label": KINDS}).to_csv(tmp_path / "table.csv", index=False)
    expected = data.read_labelled_images(tmp_path / "table.csv")
    paths = [tmp_path / name for name in names]
    opened = [Image.open(path) for path in paths]
    for images in (paths, [str(path) for path in paths], opened, PICTURES):
        for form in (
            list(zip(images, KINDS, strict=True)),
            pd.DataFrame({"path": pd.Series(images, dtype=object), "label": KINDS}),
        ):
            read = data.read_labelled_images(form)
            equal_batches(
                data.labelled_images(expected, ["dark", "light"], image_size=7, batch_size=2),
                data.labelled_images(read, ["dark", "light"], image_size=7, batch_size=2),
            )
    inside, outside = data.split_labelled_images(read, 0.5)
    assert (len(inside), len(outside)) == (2, 2)
    (summary,) = data.describe_labelled_images(read, None, ["dark", "light"])
    assert summary.sizes == [(5, 3)] * 4


def test_pixels_in_memory():
    grey = np.array([[0, 7, 255]], "uint8")
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    for image in (grey, grey[:, :, None], expected, Image.fromarray(grey)):
        assert pixels_of(image).tolist() == expected.tolist()
    turned = Image.fromarray(expected)
    turned.getexif()[0x0112] = 6  # to be shown with its left side on top
    assert pixels_of(turned).shape == (3, 1, 3)
    for wrong in (grey.astype(float), np.zeros((3, 5, 4), "uint8"), np.zeros((0, 5), "uint8"), 5):
        with pytest.raises(InputError, match="^list, row 1: column 'path' is not an? "):
            data.read_labelled_images([(grey, "a"), (wrong, "b")])


def test_bad_images_are_named_and_left_out(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    frame = pd.DataFrame(
        {"path": [PICTURES[0], tmp_path / "no.png", tmp_path / "broken.png", None, PICTURES[1]],
         "label": ["a", "b", "c", "d", "e"]},
        index=list("vwxyz"),
    )  # fmt: skip
    with pytest.raises(InputError, match="^DataFrame, row y: column 'path' is empty"):
        data.read_labelled_images(frame)
    with pytest.raises(InputError, match="^DataFrame, row w: .*no.png: there is no such file"):
        data.read_labelled_images(frame.drop("y"))
    read = data.read_labelled_images(frame, skip_bad_rows=True)
    assert read.rows == ["v", "z"]
    assert sorted(bad.row for bad in read.bad_rows) == ["w", "x", "y"]


MISSING = [None, float("nan"), pd.NA, pd.NaT, "", " \n"]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_a_missing_value_is_an_empty_cell(value):
    frame = pd.DataFrame({"source": ["a", "b", "c"], "target": ["d", value, "f"]}, index=[7, 5, 3])
    with pytest.raises(InputError, match="^DataFrame, row 5: column 'target' is empty"):
        data.read_pairs(frame)
    with pytest.raises(InputError) as caught:
        data.read_pairs([("a", "d"), ("b", value)])
    assert str(caught.value).startswith("list, row 1: column 'target' is empty")
    assert "Rows are counted from 0." in str(caught.value)
    read = data.read_pairs(frame, skip_bad_rows=True)
    assert (read.source, read.rows) == (["a", "c"], [7, 3])
    (bad,) = read.bad_rows
    assert (bad.row, bad.column, bad.values[0]) == (5, "target", "b")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "column 'target' is not a text but of type int (5)"),
        (1.5, "column 'target' is not a text but of type float (1.5)"),
        (True, "column 'target' is not a text but of type bool (True)"),
        (b"x", "column 'target' is not a text but of type bytes"),
        (["x"], "column 'target' is not a text but of type list"),
        ("a\0", "column 'target' holds a NUL character"),
        ("\ud800", "column 'target' holds half a character, '\\ud800'"),
    ],
)
def test_what_is_not_a_text_is_refused(value, reason):
    rows = [{"source": "a", "target": "b"}, {"source": "c", "target": value}]
    with pytest.raises(InputError) as caught:
        data.read_pairs(rows)
    assert str(caught.value).startswith(f"list, row 1: {reason}.\n")
    read = data.read_pairs(rows, skip_bad_rows=True)
    assert (read.rows, [(bad.row, bad.reason) for bad in read.bad_rows]) == ([0], [(1, reason)])


def test_a_number_with_a_fraction_is_not_a_label():
    """pandas makes 1.0 of the label 1 where another row has none: "1" it was, "1.0" it is not."""
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [1, None, 0]})
    with pytest.raises(InputError, match="row 0: column 'label' is not a text but of type float"):
        data.read_labelled_texts(frame)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame([["a", "b", "c"]], columns=["source", "target", "target"]),
         "^DataFrame: columns 2 and 3 are both named 'target'"),
        (pd.DataFrame({"source": ["a"], "Target": ["b"]}),
         "^DataFrame: there is no column 'target'.\n.*'source', 'Target'.\n.*mean 'Target'"),
        (pd.DataFrame({"source": [], "target": []}), "^DataFrame: there are no rows"),
        ([], "^list: there are no rows"),
        ({"source": ["a"], "target": ["b", "c"]}, "'target' has 2 values, column 'source' has 1"),
        ({"source": ["a"], "target": "b"}, "column 'target' is a text"),
        ([("a", "b"), ("c",)], "^list, row 1: the row holds 1 of 2 values"),
        ([("a", "b"), ("c", "d", "e")], "^list, row 1: the row holds 3 of 2 values"),
        ([("a", "b"), None], "^list, row 1: the row holds 1 of 2 values"),
        ([{"source": "a", "target": "b"}, {"source": "c"}], "^list, row 1: column 'target' is emp"),
        (["a.csv", "b.csv"], "^list, row 0: the row holds 1 of 2 values"),
        (5, r"cannot be read from .* type int \(5\)"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_read(table, message):
    with pytest.raises(InputError, match=message):
        data.read_pairs(table)


def test_a_table_of_bad_rows_is_refused():
    with pytest.raises(InputError, match="^list, row 0: .*every row after it is bad too"):
        data.read_pairs([("", "b"), ("c", None)], skip_bad_rows=True)


def test_scores_and_texts_are_checked_as_in_a_file():
    rows = [("a", "b", 1), ("c", "d", "x"), ("e", "f", 9.5), ("g", "h", None), ("i", "j", True)]
    read = data.read_sentence_pairs(rows, score="s", lowest=0, highest=5, skip_bad_rows=True)
    assert (read.scores, read.rows) == ([0.2], [0])
    assert [bad.reason for bad in read.bad_rows] == [
        "column 's' is not a number: 'x'",
        "column 's' is 9.5: outside the scale",
        "column 's' is empty",
        "column 's' is not a text but of type bool (True)",
    ]
    rows = [("", None, "x"), ("a", "", "y")]
    read = data.read_labelled_texts(rows, "title,body", skip_bad_rows=True)
    assert read.texts == [("a", "")]
    reason = "columns 'title' and 'body' are empty"
    assert read.bad_rows == [BadRow(0, "title", reason, ("", "None", "x"))]


def test_bad_rows_of_memory_are_written(tmp_path):
    frame = pd.DataFrame({"source": ["a", "b"], "target": ["c", None]}, index=[("p", 1), ("q", 2)])
    read = data.read_pairs(frame, skip_bad_rows=True)
    data.write_bad_rows(tmp_path / "bad.csv", read.bad_rows)
    assert "\"('q', 2)\",target,column 'target' is empty" in (tmp_path / "bad.csv").read_text()


def test_a_training_knows_data_in_memory_again_by_what_it_holds(tokenizer, tmp_path):
    frame = pd.DataFrame(TABLE)
    read = data.read_pairs(frame)
    assert content_of(read) == content_of(data.read_pairs(TABLE)) == content_of(read)
    renamed = frame.rename(index={0: "zero"}, columns={"source": "from"})
    assert content_of(data.read_pairs(renamed, "from")) == content_of(read)
    changed = [read.take([1, 0, *range(2, 7)]), data.read_pairs(frame.replace("inu", "inuu"))]
    images = [data.read_labelled_images([(PICTURES[i], "a"), (PICTURES[3], "b")]) for i in (0, 1)]
    texts = [data.read_labelled_texts([("a", "b"), ("c", label)]) for label in "de"]
    chats = [data.read_instructions([("a", "b"), ("c", answer)]) for answer in "de"]
    scored = [data.read_sentence_pairs([("a", "b", 0), ("c", "d", 1)], score="s"), read]
    digests = [
        content_of(data.read_corpus(table, tokenizer, tmp_path, column="text", share=0.5)[0])
        for table in ({"text": ["two dogs"]}, {"text": ["two cats"]})
    ]
    for one, other in [(read, changed[0]), (read, changed[1]), images, texts, chats, scored]:
        assert content_of(one) != content_of(other)
    assert len({*digests}) == 2
    run = Run("mine", {}, root=str(tmp_path))
    run.show_data(data.describe_pairs(read, None, tokenizer, 16), read)
    assert run.contents == {"DataFrame (training)": content_of(read)}
    before = {"settings": run.identity.settings, "files": dict(run.contents)}
    assert run.identity.changes(before, run.contents) == []
    run.show_data(data.describe_pairs(changed[0], None, tokenizer, 16), changed[0])
    assert run.identity.changes(before, run.contents) == ["DataFrame (training) has changed"]
