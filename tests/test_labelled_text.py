"""Labelled texts from a CSV to batches, and the figures of what was read."""

import csv
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_transformer.cli.data import Columns, TableReading, check
from tfx_transformer.data import (
    LabelledTexts,
    class_weights,
    describe_labelled_texts,
    label_ids,
    label_names,
    labelled_texts,
    read_labelled_texts,
    split_labelled_texts,
)
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def letters():
    """A tokenizer without merges: a token is a byte."""
    return Tokenizer.train([], 259)


@pytest.fixture(scope="module")
def ids_of(letters):
    """The id of each byte of a text."""
    return lambda text: [letters.ranks[bytes([byte])] for byte in text.encode()]


@pytest.fixture
def write(tmp_path):
    """Writes rows to a new CSV and returns its path."""

    def write_file(*rows):
        path = tmp_path / "texts.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        return path

    return write_file


def examples_of(**rows):
    """Examples from text=labels."""
    texts, labels = [(text,) for text in rows], list(rows.values())
    return LabelledTexts(texts, labels, list(range(2, len(texts) + 2)), path="x.csv")


# Reading


def test_columns_are_mapped_by_name(write):
    path = write(["id", "topic", "said"], ["1", "food", " a cake, sweet "], ["2", "動物", "猫"])
    read = read_labelled_texts(path, "said", "topic")
    assert read.texts == [(" a cake, sweet ",), ("猫",)]
    assert read.labels == [("food",), ("動物",)]
    assert (read.rows, read.path) == ([2, 3], str(path))
    assert read.columns == {"text": "said", "label": "topic"}
    assert read.flat_texts() == [" a cake, sweet ", "猫"]
    with pytest.raises(InputError, match="there is no column 'text'"):
        read_labelled_texts(path, label="topic")


def test_labels_stay_text(write):
    labels = ["NA", "null", "None", "nan", "001", "1", "1.0", "True", "a|b", "-", "I like it"]
    read = read_labelled_texts(write(["text", "label"], *(["t", label] for label in labels)))
    assert read.labels == [(label,) for label in labels]
    assert len(label_names(read.labels, "")) == len(labels)


def test_blanks_around_a_label_are_trimmed(write):
    path = write(["text", "label"], [" t", " a b "], ["t", "a b\n"], ["t", "\u3000a b"])
    assert read_labelled_texts(path).labels == [("a b",)] * 3


def test_an_empty_label_is_a_bad_row(write):
    path = write(["text", "label"], ["a", "x"], ["b", " "], ["c", "y"])
    with pytest.raises(InputError, match="row 3: column 'label' is empty"):
        read_labelled_texts(path)
    read = read_labelled_texts(path, skip_bad_rows=True)
    assert (read.texts, read.rows) == ([("a",), ("c",)], [2, 4])
    assert read.bad_rows == [BadRow(3, "label", "column 'label' is empty", ("b", " "))]


def test_an_empty_text_is_a_bad_row(write):
    path = write(["text", "label"], ["a", "x"], ["  ", "y"])
    with pytest.raises(InputError, match="row 3: column 'text' is empty"):
        read_labelled_texts(path)


def test_several_labels_in_a_cell(write):
    cells = ["a|b", "a||b", "|b | a|", "b|a|b", "", " | ", "a"]
    path = write(["text", "label"], *(["t", cell] for cell in cells))
    read = read_labelled_texts(path, separator="|")
    both, other = ("a", "b"), ("b", "a")
    assert read.labels == [both, both, other, other, (), (), ("a",)]
    assert not read.bad_rows


def test_a_separator_may_be_blank_or_long(write):
    path = write(["text", "label"], ["t", "a  b"], ["t", "a and b"])
    assert read_labelled_texts(path, separator=" ").labels[0] == ("a", "b")
    assert read_labelled_texts(path, separator=" and ").labels == [("a  b",), ("a", "b")]


def test_several_columns_of_text(write):
    path = write(["body", "label", "title"], ["b", "x", "t"], ["", "y", "t"], ["b", "y", ""])
    read = read_labelled_texts(path, "title, body")
    assert read.texts == [("t", "b"), ("t", ""), ("", "b")]
    assert read.columns == {"text": "title,body", "label": "label"}
    assert read.flat_texts() == ["t", "b", "t", "b"]


def test_a_row_needs_one_of_its_texts(write):
    rows = [["b", "x", "t"], ["", "y", " "], ["b", "", "t"], ["b", "y", "t"]]
    path = write(["body", "label", "title"], *rows)
    with pytest.raises(InputError) as caught:
        read_labelled_texts(write(["body", "label", "title"], *rows[:2]), "title,body")
    assert str(caught.value).startswith(
        f"{path}, row 3: columns 'title' and 'body' are empty.\n  Every row needs a text"
    )
    write(["body", "label", "title"], *rows)
    read = read_labelled_texts(path, "title,body", skip_bad_rows=True)
    assert read.rows == [2, 5]
    assert read.bad_rows == [
        BadRow(3, "title", "columns 'title' and 'body' are empty", ("", "y", " ")),
        BadRow(4, "label", "column 'label' is empty", ("b", "", "t")),
    ]


def test_leaving_out_every_row_is_refused(write):
    path = write(["a", "b", "label"], ["", "", "x"], ["", "", "y"])
    with pytest.raises(InputError, match="row 2: columns 'a' and 'b' are empty, and every row"):
        read_labelled_texts(path, "a,b", skip_bad_rows=True)


@pytest.mark.parametrize(
    ("text", "label", "twice"),
    [("text,text", "label", "text"), ("text, label", "label", "label"), ("text", "text", "text")],
)
def test_a_column_named_twice_is_refused(write, text, label, twice):
    path = write(["text", "label"], ["a", "x"])
    with pytest.raises(InputError, match=rf"^column '{twice}' is named twice"):
        read_labelled_texts(path, text, label)


cells = st.text(st.sampled_from('",\n|a b猫\u3000'), max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cells, cells, cells), min_size=1))
def test_any_file_is_read_or_its_rows_are_named(write, rows):
    path = write(["title", "body", "label"], *rows)
    good = [number for number, (title, body, _) in enumerate(rows, 2) if (title + body).strip()]
    if not good:
        with pytest.raises(InputError, match="row 2"):
            read_labelled_texts(path, "title,body", separator="|", skip_bad_rows=True)
        return
    read = read_labelled_texts(path, "title,body", separator="|", skip_bad_rows=True)
    assert read.rows == good
    assert sorted(good + [bad.row for bad in read.bad_rows]) == list(range(2, len(rows) + 2))
    for row, texts, labels in zip(read.rows, read.texts, read.labels, strict=True):
        assert texts == rows[row - 2][:2]
        assert set(labels) == {part.strip() for part in rows[row - 2][2].split("|")} - {""}


def test_a_text_of_10_megabytes(write, letters, ids_of):
    path = write(["text", "label"], ["cat " * 2_500_000, "x"], ["dog", "y"])
    read = read_labelled_texts(path)
    assert len(read.texts[0][0]) == 10_000_000
    [(inputs, _, _)] = labelled_texts(read, letters, ["x", "y"], max_length=8, shuffle=False)
    expected = [[1, *ids_of("cat ca"), 2], [1, *ids_of("dog"), 2, 0, 0, 0]]
    assert inputs["token_ids"].numpy().tolist() == expected
    (summary,) = describe_labelled_texts(read, None, letters, ["x", "y"], 8)
    assert (summary.truncated, summary.percentiles()[-1]) == (1, 10_000_002)


@pytest.mark.parametrize("name", ["classification_en/banking77", "classification_ja/aozora_author"])
def test_real_files(shared_data, name):
    train, test = (
        read_labelled_texts(shared_data / name / f"{part}.csv") for part in ("train", "test")
    )
    with (shared_data / name / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert train.texts == [(row["text"],) for row in rows]
    assert train.labels == [(row["label"],) for row in rows]
    names = label_names(train.labels, train.path)
    ids = label_ids(test.labels, names, path=test.path, rows=test.rows)
    assert set(ids) == set(range(len(names)))


# Splitting


def test_rows_with_equal_texts_go_to_the_same_side():
    texts = [(f"text {number % 30}", "") for number in range(60)]
    labels = [("ab"[number % 2],) for number in range(60)]
    everything = LabelledTexts(texts, labels, list(range(2, 62)))
    training, held_out = split_labelled_texts(everything, 0.2)
    assert len(held_out) == 2 * 2 * 3, "two labels, three of each fifteen texts, twice each"
    assert not set(training.texts) & set(held_out.texts)
    assert sorted(training.rows + held_out.rows) == everything.rows
    for part in (training, held_out):
        assert part.texts == [texts[row - 2] for row in part.rows]
        assert part.labels == [labels[row - 2] for row in part.rows]


def test_what_cannot_be_split_is_said():
    with pytest.raises(InputError, match=r"^x\.csv: cannot be split"):
        split_labelled_texts(examples_of(a=("x",), b=("y",)))


# Batches


def test_a_batch_by_hand(letters, ids_of):
    examples = examples_of(ab=("y",), c=("x",), def_=("y",))
    weights = class_weights(np.array([1, 0, 1]), 2)
    [(inputs, labels, weight)] = labelled_texts(
        examples, letters, ["x", "y"], weights=weights, shuffle=False
    )
    assert inputs["token_ids"].numpy().tolist() == [
        [1, *ids_of("ab"), 2, 0, 0, 0, 0],
        [1, *ids_of("c"), 2, 0, 0, 0, 0, 0],
        [1, *ids_of("def_"), 2, 0, 0],
    ]
    assert labels.numpy().tolist() == [1, 0, 1]
    assert weight.numpy().tolist() == [0.75, 1.5, 0.75]
    assert [t.dtype for t in (inputs["token_ids"], labels, weight)] == ["int32"] * 2 + ["float32"]


def test_two_texts_in_a_row(letters, ids_of):
    examples = LabelledTexts([("ab", "c"), ("", "d")], [("x",), ("y",)], [2, 3])
    [(inputs, _, weight)] = labelled_texts(examples, letters, ["x", "y"], shuffle=False)
    assert inputs["token_ids"].numpy().tolist() == [
        [1, *ids_of("ab"), 2, *ids_of("c"), 2, 0, 0],
        [1, 2, *ids_of("d"), 2, 0, 0, 0, 0],
    ]
    assert weight.numpy().tolist() == [1, 1]


def test_several_labels_a_row(letters):
    examples = examples_of(a=("z", "x"), b=(), c=("y",))
    [(_, labels, weight)] = labelled_texts(
        examples, letters, ["x", "y", "z"], multi_label=True, shuffle=False
    )
    assert labels.dtype == "float32"
    assert labels.numpy().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert weight.numpy().tolist() == [1, 1, 1]
    with pytest.raises(InputError, match=r"^x\.csv, row 2: there are 2 labels"):
        labelled_texts(examples, letters, ["x", "y", "z"])
    with pytest.raises(InputError, match="class weights and several labels"):
        labelled_texts(examples, letters, ["x", "y", "z"], multi_label=True, weights=np.ones(3))


def test_an_unknown_label_is_refused_before_training(letters):
    with pytest.raises(InputError, match=r"^x\.csv, row 3: the label 'z' is unknown"):
        labelled_texts(examples_of(a=("x",), b=("z",)), letters, ["x", "y"])


@pytest.mark.parametrize("texts", [("a",), ("a", "b", "c")])
def test_every_text_needs_room(letters, texts):
    examples = LabelledTexts([texts], [("x",)], [2])
    least = len(texts) + 2
    [(inputs, _, _)] = labelled_texts(examples, letters, ["x", "y"], max_length=least)
    assert inputs["token_ids"].shape[1] >= least
    with pytest.raises(InputError, match=rf"max_length is {least - 1}.\n  Expected {least}"):
        labelled_texts(examples, letters, ["x", "y"], max_length=least - 1)


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_is_seen_once_an_epoch_with_its_own_label(letters, shuffle):
    random = np.random.default_rng(0)
    texts = [(f"{number:03}" + "x" * random.integers(0, 40),) for number in range(103)]
    labels = [(f"{number % 5}",) for number in range(103)]
    examples = LabelledTexts(texts, labels, list(range(2, 105)))
    weights = np.array([1, 2, 3, 5, 7], "float32")
    dataset = labelled_texts(
        examples, letters, list("01234"), batch_size=8, weights=weights, shuffle=shuffle, seed=3
    )
    assert len(dataset) == 13
    epochs = []
    for _ in range(2):
        seen = []
        for inputs, ids, weight in dataset:
            for row, label, of_row in zip(inputs["token_ids"].numpy(), ids, weight, strict=True):
                text = letters.decode(row)
                assert (int(label), float(of_row)) == (int(text[:3]) % 5, weights[int(label)])
                seen.append((text,))
        assert sorted(seen) == texts
        epochs.append(seen)
    assert (epochs[0] == texts) == (not shuffle)
    assert (epochs[0] == epochs[1]) == (not shuffle)


def thinned(letters, texts, batch_size=7, seed=3, epochs=2, shuffle=True, **options):
    """Epoch by epoch, what stands in the batches for each text, which begins with its number; ids
    as a tuple without padding."""
    examples = LabelledTexts(texts, [("x",)] * len(texts), list(range(2, len(texts) + 2)))
    dataset = labelled_texts(
        examples,
        letters,
        ["x", "y"],
        batch_size=batch_size,
        token_dropout=0.3,
        shuffle=shuffle,
        seed=seed,
        **options,
    )
    read = []
    for _ in range(epochs):
        rows = [row for inputs, *_ in dataset for row in inputs["token_ids"].numpy().tolist()]
        read.append([tuple(i for i in row if i != letters.padding_id) for row in rows])
    return read


def alphabet(count):
    """Texts of two columns that tell by each of their letters which they are."""
    return [(chr(0x4E00 + n) * 9, chr(0x4E00 + n) * 11) for n in range(count)]


def test_left_out_tokens_are_a_function_of_seed_epoch_and_row(letters):
    texts = alphabet(41)
    epochs = [sorted(epoch) for epoch in thinned(letters, texts, batch_size=7)]
    assert epochs == [sorted(epoch) for epoch in thinned(letters, texts, batch_size=16)]
    assert epochs[0] != epochs[1], "anew in every epoch"
    assert epochs[0] != sorted(thinned(letters, texts, seed=4)[0])


def test_tokens_are_left_out_at_their_rate_and_starts_and_ends_stay(letters, ids_of):
    texts = alphabet(101)
    total = sum(len(ids_of(text)) for row in texts for text in row)
    frame_ids = (letters.start_id, letters.end_id)
    whole = [(1, *ids_of(a), 2, *ids_of(b), 2) for a, b in texts]
    for epoch in thinned(letters, texts):
        kept = [[i for i in row if i not in frame_ids] for row in epoch]
        assert [[i for i in row if i in frame_ids] for row in epoch] == [[1, 2, 2]] * len(texts)
        assert all(row[0] == 1 and row[-1] == 2 for row in epoch)
        # Five standard deviations around the mean: missed once in two million draws.
        spread = 5 * (total * 0.3 * 0.7) ** 0.5
        assert abs(sum(map(len, kept)) - 0.7 * total) < spread
        for row in epoch:
            assert sum(is_part(row, other) for other in whole) == 1, "in order, and of one text"


def is_part(row, whole):
    """Whether the ids stand in `whole` in this order."""
    rest = iter(whole)
    return all(i in rest for i in row)


def test_rows_are_left_alone_without_a_rate(letters, ids_of):
    [(inputs, *_)] = labelled_texts(examples_of(abc=("x",)), letters, ["x", "y"], token_dropout=0.0)
    assert inputs["token_ids"].numpy().tolist() == [[1, *ids_of("abc"), 2, 0, 0, 0]]


def test_validation_keeps_its_tokens(letters, ids_of):
    texts = alphabet(11)
    whole = [(1, *ids_of(a), 2, *ids_of(b), 2) for a, b in texts]
    assert thinned(letters, texts, shuffle=False) == [whole, whole]


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_a_rate_out_of_range(letters, rate):
    with pytest.raises(
        InputError, match=f"^token_dropout is {rate}\\.\n  Expected from 0 to below 1"
    ):
        labelled_texts(examples_of(a=("x",)), letters, ["x", "y"], token_dropout=rate)


# Figures


TRAINING = LabelledTexts(
    [("a",), ("bb",), ("a",), ("ccc",), ("a",), ("猫",)],
    [("x",), ("y",), ("x",), ("x",), ("y",), ("z",)],
    [2, 3, 4, 5, 6, 8],
    path="train.csv",
    columns={"text": "said", "label": "topic"},
    bad_rows=[BadRow(7, "topic", "column 'topic' is empty", ("e", ""))],
)
HELD_OUT = LabelledTexts([("a",), ("new",)], [("x",), ("y",)], [2, 3], path="check.csv")


def test_figures(letters):
    training, held_out = describe_labelled_texts(TRAINING, HELD_OUT, letters, list("xyz"), 4)
    assert training.lengths == [3, 4, 3, 5, 3, 5]
    assert training.to_dict() == {
        "name": "training",
        "path": "train.csv",
        "columns": {"text": "said", "label": "topic"},
        "rows": 6,
        "bad_rows": 1,
        "labels": {"x": 3, "y": 2, "z": 1},
        "unlabelled": 0,
        "duplicates": 1,  # a, x
        "contradictions": 1,  # a, y
        "overlap": 0,
        "truncated": 2,
        "tokens": 3 + 4 + 3 + 4 + 3 + 4,
        "max_length": 4,
        "percentiles": [50, 95, 99, 100],
        "row_tokens": [4, 5, 5, 5],
        "single": ["z"],
        "alike": [],
    }
    assert (held_out.name, held_out.rows, held_out.overlap) == ("validation", 2, 1)
    assert held_out.labels == {"x": 1, "y": 1, "z": 0}
    json.dumps(training.to_dict())


def test_lines(letters):
    training, held_out = describe_labelled_texts(TRAINING, HELD_OUT, letters, list("xyz"), 4)
    assert training.lines() == [
        "training    train.csv",
        "  rows      6 ('said', 'topic'), 1 bad row left out",
        "  labels    3: 'x' 3, 'y' 2, 'z' 1",
        "  single    'z': one example, which only one side can have",
        "  tokens    21; per row: half ≤ 4, 95 % ≤ 5, longest 5",
        "  truncated 2 rows (33.3 %)",
        "  repeated  1 row (16.7 %)",
        "  doubtful  1 row (16.7 %) with a text that has another label too",
    ]
    assert held_out.lines()[-1] == (
        "  overlap   1 row (50.0 %) with a text that is in training too"
    )


def test_many_labels_are_counted(letters):
    labels = [(f"{min(number, 11)}",) for number in range(20)] + [()]
    examples = LabelledTexts([(f"{n}",) for n in range(21)], labels, list(range(2, 23)))
    names = label_names(labels, "")
    (summary,) = describe_labelled_texts(examples, None, letters, names, 9)
    lines = summary.lines()
    assert lines[2] == "  labels    12, from '9' 1 to '11' 9"
    assert lines[3] == "  unlabelled 1 row (4.8 %)"
    assert lines[4].startswith("  single    '0', '1', '10', '2', '3' and 6 more: ")


# The verb


def figures_of(path, kind=None, skip_bad_rows=False, **columns):
    """Return what `tfx-transformer check` does."""
    chosen = {"columns": Columns(**columns), "reading": TableReading()}
    return check(path, kind=kind, skip_bad_rows=skip_bad_rows, **chosen)


def test_check_knows_labels_by_their_header(write, capsys):
    path = write(["text", "label"], ["a cat", "animals"], ["a dog", "animals"], ["a pie", "food"])
    figures = figures_of(path)
    assert figures["labels"] == {"animals": 2, "food": 1}
    assert capsys.readouterr().out.startswith(f"{path}\n  rows      3 ('text', 'label')\n")


def test_check_of_labels_that_are_named(write):
    path = write(["title", "body", "tags"], ["a", "", "x|y"], ["", "", "x"], ["b", "c", "y"])
    chosen = {"text": "title,body", "label": "tags", "separator": "|", "skip_bad_rows": True}
    figures = figures_of(path, **chosen)
    assert figures["labels"] == {"x": 1, "y": 2}
    assert figures["bad_rows"] == [[3, "title", "columns 'title' and 'body' are empty"]]
    with pytest.raises(InputError, match="there is no column 'text'"):
        figures_of(path, kind="labels")


def test_check_says_that_one_label_is_too_few(write):
    path = write(["text", "label"], ["a cat", "animals"], ["a dog", "animals"])
    with pytest.raises(InputError, match="'animals' is the only label"):
        figures_of(path)
