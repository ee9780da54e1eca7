"""The loop after a first model: what a person corrected, the rows that stay held out, and the
better of two models, against numbers by hand."""

import base64
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openpyxl
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tfx_transformer import bundle
from tfx_transformer.data import (
    read_labelled_images,
    read_labelled_texts,
    read_pairs,
    read_scored_texts,
    split_labelled_images,
    split_labelled_texts,
    split_pairs,
    split_scored_texts,
    table_files,
)
from tfx_transformer.data.joined import settle
from tfx_transformer.data.splits import Split, row_sum
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.comparison import (
    Comparison,
    compare_means,
    compare_scores,
    compare_shares,
)
from tfx_transformer.evaluation.conclusion import Conclusion, conclude_labels
from tfx_transformer.evaluation.intervals import paired_difference
from tfx_transformer.evaluation.labels import with_labels
from tfx_transformer.prediction.classification import Classification, Labels
from tfx_transformer.training.folder import free_path
from tfx_transformer.training.past import Past, split_of

OLD = [(f"old text {number}", "ab"[number % 2]) for number in range(20)]
HELD_OUT = [text for text, _ in OLD[::5]]
TRAINED_ON = [text for text, _ in OLD if text not in HELD_OUT]


def write(path, rows, header="text,label", **options):
    frame = pandas.DataFrame(rows, columns=header.split(","))
    frame.to_csv(path, index=False, **options)
    return str(path)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A bundle that was trained on OLD, and answers "a" to everything."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "saved_models" / "own"
    path.mkdir(parents=True)
    architecture = {"multi_label": False}
    config = {"format": 1, "task": "classification", "labels": ["a", "b"]}
    bundle.write_config(path, config | {"architecture": architecture})
    (path / "split.json").write_text(Split.of(TRAINED_ON, HELD_OUT).to_json())

    class Model:
        def classify(self, inputs):
            return [Classification("a", 1.0, ("a",), {"a": 1.0, "b": 0.0}) for _ in inputs]

    monkeypatch.setattr(Past, "open", lambda self: Model())
    return path


def divide(own, *names, validation=None, share=0.25):
    csv, validation = table_files(",".join(names), validation)
    train = read_labelled_texts(csv)
    held_out = read_labelled_texts(validation) if validation else None
    past = Past(own)
    return *past.divide(train, held_out, split_labelled_texts, share, 1), past


def pairs(examples):
    return {
        text: labels[0] for (text,), labels in zip(examples.texts, examples.labels, strict=True)
    }


# Which rows are held out


def test_rows_of_the_first_training_stay_on_their_side(own):
    write("old.csv", OLD[::-1])
    train, held_out, past = divide(own, "old.csv")
    assert pairs(train) == {text: label for text, label in OLD if text in TRAINED_ON}
    assert set(pairs(held_out)) == set(HELD_OUT)
    assert past.goes_on and past.labels == ["a", "b"] and past.notes == []


def test_new_rows_are_divided_and_none_of_training_is_held_out(own):
    new = [(f"new text {number}", "ab"[number % 2]) for number in range(12)]
    write("all.csv", [*new, *OLD])
    train, held_out, _ = divide(own, "all.csv")
    assert set(pairs(held_out)) & set(TRAINED_ON) == set()
    assert set(HELD_OUT) < set(pairs(held_out))
    fresh = set(pairs(held_out)) - set(HELD_OUT)
    # A quarter of the six rows of either label is 1.5, rounded to 2.
    assert len(fresh) == 4 and fresh < {text for text, _ in new}
    assert pairs(train).keys() | pairs(held_out).keys() == {text for text, _ in [*new, *OLD]}


def test_an_answer_of_the_base_is_never_held_out(own):
    write("old.csv", OLD)
    rows = [(f"mail {number}", "ab"[number % 2], "0.9") for number in range(30)]
    rows += [(f"doubtful {number}", "", "0.4") for number in range(3)]
    write("out.csv", rows, "text,predicted,probability")
    train, held_out, past = divide(own, "old.csv", "out.csv")
    assert set(pairs(held_out)) == set(HELD_OUT) and len(train) == len(TRAINED_ON) + 30
    assert past.notes == ["3 rows still open: left out"]


def test_a_label_that_the_base_does_not_know_was_written_by_a_person(own):
    write("old.csv", OLD)
    rows = [(f"mail {number}", "c", "0.4") for number in range(8)]
    write("out.csv", rows, "text,predicted,probability")
    train, held_out, past = divide(own, "old.csv", "out.csv")
    assert sum(label == "c" for label in pairs(held_out).values()) == 2
    assert sum(label == "c" for label in pairs(train).values()) == 6
    assert past.notes == ["new label 'c': 8 rows"]


def test_a_typing_error_in_a_label_is_named(own):
    write("old.csv", [(text, {"a": "animal", "b": "b"}[label]) for text, label in OLD])
    config = bundle.read_config(own)
    bundle.write_config(own, config | {"labels": ["animal", "b"]})
    write("out.csv", [("mail", "anmal", "0.3")], "text,predicted,probability")
    _, _, past = divide(own, "old.csv", "out.csv")
    assert past.notes == ["new label 'anmal': 1 row; did you mean 'animal'?"]


def test_rows_of_a_validation_table_that_the_base_knows_are_left_out(own):
    write("old.csv", OLD)
    write("held.csv", [("never seen", "b"), (TRAINED_ON[0], "a"), (HELD_OUT[0], "a")])
    write("new.csv", [("never seen", "a")])
    train, held_out, past = divide(own, "old.csv", "new.csv", validation="held.csv")
    assert set(pairs(held_out)) == {"never seen", *HELD_OUT}
    assert pairs(held_out)["never seen"] == "a" and "never seen" not in pairs(train)
    assert TRAINED_ON[0] not in pairs(held_out)
    assert past.notes == [
        f"1 held-out row left out: {own} was trained on them",
        "1 row of an earlier table with another label in a later one",
    ]
    assert held_out.path == "held.csv"


def test_nothing_to_hold_out_is_an_error_that_says_what_to_name(own):
    write("out.csv", [(f"mail {n}", "ab"[n % 2], "0.9") for n in range(8)],
          "text,predicted,probability")  # fmt: skip
    with pytest.raises(InputError, match=r"has none of the rows .* holds out(.|\n)*first.csv"):
        divide(own, "out.csv")


def test_a_base_that_says_nothing_of_its_rows_is_not_compared(own):
    (own / "split.json").unlink()
    write("old.csv", OLD)
    write("held.csv", [("never seen", "b")])
    *_, past = divide(own, "old.csv")
    assert not past.is_comparable and "does not say which rows" in past.notes[0]
    *_, past = divide(own, "old.csv", validation="held.csv")
    assert past.is_comparable and past.notes == []


def test_the_rows_of_a_teacher_count_beside_those_of_the_base(own):
    large = shutil.copytree(own, own.parent / "large")
    # It was trained on the first row that the base holds out, and holds out one that is new.
    record = Split.of([HELD_OUT[0], "new 0"], ["new 1", HELD_OUT[1], TRAINED_ON[0]])
    (large / "split.json").write_text(record.to_json())
    table = write(own.parent / "t.csv", [*OLD, *((f"new {i}", "ab"[i % 2]) for i in range(2))])
    examples = read_labelled_texts(table)
    base, teacher = Past(own), Past(large)
    parts = base.divide(examples, None, split_labelled_texts, 0.25, 1, teacher=teacher)
    assert set(pairs(parts[1])) == {*HELD_OUT[1:], "new 1"}
    assert set(pairs(parts[0])) == {*TRAINED_ON, HELD_OUT[0], "new 0"}
    own.joinpath("split.json").unlink()
    base = Past(own)
    _, found = base.divide(examples, None, split_labelled_texts, 0.0, 1, teacher=teacher)
    assert {"new 1", HELD_OUT[1], TRAINED_ON[0]} <= set(pairs(found))
    assert not base.is_comparable and "own does not say which rows" in base.notes[0]
    seen = read_labelled_texts(write(own.parent / "seen.csv", [(HELD_OUT[0], "a")]))
    with pytest.raises(InputError, match="large holds out.\n  Name the table of .*large first"):
        Past(own).divide(seen, None, split_labelled_texts, 0.0, 1, teacher=teacher)


def test_other_labels_are_another_task(own):
    rows = [(f"text {n}", "xyzab"[n % 5]) for n in range(20)]
    write("other.csv", rows)
    *_, past = divide(own, "other.csv")
    assert not past.goes_on and past.labels == []
    csv, _ = table_files("other.csv", None)
    past = Past(own)
    past.divide(read_labelled_texts(csv, separator="|"), None, split_labelled_texts, 0.2, 1, True)
    assert not past.goes_on, "several labels a row are read out in another way"


def test_pairs_stay_on_their_side_too(own):
    config = bundle.read_config(own)
    bundle.write_config(own, config | {"task": "seq2seq", "labels": None})
    write("old.csv", [*OLD, ("new", "x"), ("newer", "y")], "source,target")
    write("held.csv", [("newest", "z"), (TRAINED_ON[0], "b")], "source,target")
    past = Past(own)
    train, held_out = past.divide(read_pairs("old.csv"), None, split_pairs, 0.5, 1)
    assert set(TRAINED_ON) < set(train.source) and set(HELD_OUT) < set(held_out.source)
    assert len({"new", "newer"} & set(held_out.source)) == 1
    assert past.is_of("seq2seq") and past.is_comparable and not past.goes_on
    read = read_pairs("old.csv"), read_pairs("held.csv")
    train, held_out = Past(own).divide(*read, split_pairs, 0.5, 1)
    assert set(held_out.source) == {"newest", *HELD_OUT}
    assert set(train.source) == {*TRAINED_ON, "new", "newer"}


def test_numbers_of_a_later_table_are_held_out_as_before(own):
    write("old.csv", [(text, n) for n, (text, _) in enumerate(OLD)], "text,target")
    write("new.csv", [(HELD_OUT[0], 99.5), ("new", 3), ("newer", 4)], "text,target")
    csv, _ = table_files("old.csv,new.csv", None)
    train, held_out = Past(own).divide(read_scored_texts(csv), None, split_scored_texts, 0.5, 1)
    numbers = {text: n for (text,), n in zip(held_out.texts, held_out.numbers, strict=True)}
    assert set(HELD_OUT) < set(numbers) and numbers[HELD_OUT[0]] == 99.5
    assert {(text,) for text in TRAINED_ON} < set(train.texts)


class Settled:
    """The past of a base that says the same of everything."""

    path = "saved_models/own"

    def __init__(self, model):
        self.model = model

    def open(self):
        return self.model


def test_taggers_regressors_and_translators_compare_what_they_say():
    from tfx_transformer.data import ScoredTexts, TaggedTexts
    from tfx_transformer.training.regression import RegressorRun
    from tfx_transformer.training.run import Run
    from tfx_transformer.training.tagging import TaggerRun

    class Span:
        start, end, label = 0, 5, "place"

    def made(kind, old, **attributes):
        run = object.__new__(kind)
        run.__dict__ |= {"past": Settled(old), "answering": None, **attributes}
        return run._compare()

    texts = [f"Tokyo {n}" for n in range(6)]
    old, new = (Says(dict.fromkeys(texts, spans)) for spans in ([], [Span()]))
    tagged = TaggedTexts(texts, [(Span(),)] * 6, list(range(6)))
    found = made(TaggerRun, old, held_out=tagged, tagger=new)
    assert (found.measure, found.old, found.new, found.count) == ("entity_f1", 0, 1, 6)

    old, new = (Says(dict.fromkeys(texts, number)) for number in (7.0, 4.5))
    scored = ScoredTexts([(text,) for text in texts], [4.0] * 6, list(range(6)))
    found = made(RegressorRun, old, held_out=scored, predictor=new, truth=np.full(6, 4.0))
    assert (found.measure, found.old, found.new, found.better) == ("mae", 3, 0.5, "new")

    answer = "a long enough answer to score"
    old, new = (Says(dict.fromkeys(texts, text)) for text in ("nothing of that kind", answer))
    found = made(Run, old, _written_for=(new, texts, [answer] * 6))
    assert (found.measure, found.new, found.verdict) == ("bleu", pytest.approx(100), "better")
    assert made(Run, old, _written_for=None) is None


# The record in a bundle


def test_a_record_is_read_as_it_was_written(own):
    found = Split.read(own)
    assert found == Split.of(TRAINED_ON, HELD_OUT)
    assert len(found.training) == 16 and len(found.held_out) == 4
    values = json.loads((own / "split.json").read_text())
    sums = np.frombuffer(base64.b64decode(values["held_out"]), "<u4")
    assert sorted(found.held_out) == sums.tolist()
    assert not any(text in (own / "split.json").read_text() for text, _ in OLD)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"sums": "md5", "training": "", "held_out": ""}',
        '{"sums": "blake2b-32", "training": "AAA", "held_out": ""}',
        '{"sums": "blake2b-32", "training": "AAAA", "held_out": ""}',
        '{"sums": "blake2b-32", "training": 5, "held_out": ""}',
        '{"sums": "blake2b-32", "training": "あ", "held_out": ""}',
    ],
)
def test_a_damaged_record_is_an_input_error(own, text):
    (own / "split.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"split\.json"):
        Past(own)


def test_records_add_up_over_several_trainings(own):
    write("old.csv", OLD)
    write("new.csv", [("x", "a"), ("y", "b"), ("z", "a"), ("w", "b")])
    train, held_out, past = divide(own, "old.csv", "new.csv", share=0.5)
    found = split_of([train, held_out], past)
    assert found.training == set(map(row_sum, [*pairs(train), *TRAINED_ON]))
    assert found.held_out == set(map(row_sum, [*pairs(held_out), *HELD_OUT]))
    assert not found.training & found.held_out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a line\r\nand another", "a line\nand another"),
        ("two  blanks ", "two blanks"),
        ("波〜線−‖—", "波～線－∥―"),  # as Excel writes Shift-JIS
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_a_spreadsheet_does_not_make_a_new_row(before, after):
    assert row_sum(before) == row_sum(after) == row_sum((after,))


def test_columns_of_a_row_are_apart():
    assert len({row_sum(key) for key in [("a", "b"), ("b", "a"), ("a b", ""), ("a b",)]}) == 4


# Several tables


def excel(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return str(path)


def test_the_corrected_label_wins_in_every_form_that_excel_saves(own):
    write("old.csv", OLD)
    corrected = [(HELD_OUT[0], "b", 0.31), (TRAINED_ON[0], "b", 0.5), ("新しい文", "c", 0.2)]
    header = "text,predicted,probability"
    forms = [
        write("semicolons.csv", corrected, header, sep=";", encoding="cp932"),
        write("utf16.csv", corrected, header, sep="\t", encoding="utf-16"),
        write("marked.csv", corrected, header, encoding="utf-8-sig", lineterminator="\r\n"),
        excel("book.xlsx", [header.split(","), *corrected]),
    ]
    for name in forms:
        train, held_out, past = divide(own, "old.csv", name)
        assert pairs(held_out)[HELD_OUT[0]] == "b", name
        assert pairs(train)[TRAINED_ON[0]] == "b" and TRAINED_ON[0] not in pairs(held_out)
        assert "新しい文" in pairs(train) | pairs(held_out)
        changed = {c.input: (c.label, c.corrected) for c in past.corrections}
        # Row 2 of OLD, the first that was trained on, has the label "b" already.
        assert changed == {HELD_OUT[0]: ("a", "b")}
        (correction,) = past.corrections
        assert str(correction.row) == f"2 of {name}" and correction.earlier_row == "2 of old.csv"


def test_the_bases_own_answer_corrects_nothing(own):
    # The base answers "a" to all: where the old table says "b" that is a mistake of the base.
    write("old.csv", OLD)
    rows = [(text, "a", "0.99") for text, _ in OLD]
    write("out.csv", rows, "text,predicted,probability")
    train, held_out, past = divide(own, "old.csv", "out.csv")
    assert pairs(train) | pairs(held_out) == dict(OLD)
    assert past.corrections == []


def test_a_column_of_labels_counts_before_the_predicted_one(own):
    write("old.csv", OLD)
    rows = [("one", "b", "a", "0.9"), ("two", "", "a", "0.9"), ("three", "", "", "0.3")]
    write("out.csv", rows, "text,label,predicted,probability")
    read = read_labelled_texts("out.csv")
    assert pairs(read) == {"one": "b", "two": "a"} and read.open_rows == 1
    assert list(read.predicted) == [False, True]


def test_an_empty_label_of_a_plain_table_is_an_error_as_before(tmp_path):
    path = write(tmp_path / "plain.csv", [("one", "a"), ("two", "")])
    with pytest.raises(InputError, match="row 3: column 'label' is empty"):
        read_labelled_texts(path)


def test_a_table_that_is_open_in_every_row_says_where_to_write(tmp_path):
    rows = [("one", "", "0.2"), ("two", "", "0.3")]
    path = write(tmp_path / "open.csv", rows, "text,predicted,probability")
    with pytest.raises(InputError, match="all 2 rows are still open"):
        read_labelled_texts(path)


def test_several_labels_of_a_predicted_cell(tmp_path):
    rows = [("one", "b|a", "0.9"), ("two", "", "0.2")]
    path = write(tmp_path / "several.csv", rows, "text,predicted,probability")
    assert read_labelled_texts(path, separator=";").labels == [("b", "a")]
    assert read_labelled_texts(path).labels == [("b|a",)], "one label a row"


def test_options_reach_the_table_that_knows_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.csv", [("はい", "x")], encoding="cp932")
    excel("b.xlsx", [("text", "label"), ("いいえ", "y")])
    several, _ = table_files("a.csv,b.xlsx", None, encoding="cp932", sheet="Sheet")
    assert pairs(read_labelled_texts(several)) == {"はい": "x", "いいえ": "y"}
    with pytest.raises(InputError, match="--table t: not an option of a.csv,b.xlsx"):
        table_files("a.csv,b.xlsx", None, table="t")
    with pytest.raises(InputError, match="empty name between commas"):
        table_files("a.csv,", None)


def test_a_file_with_a_comma_in_its_name_is_one_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a,b.csv", [("one", "x")])
    found, _ = table_files("a,b.csv", None)
    assert pairs(read_labelled_texts(found)) == {"one": "x"}


def test_images_are_known_by_their_bytes(own, tmp_path):
    random = np.random.default_rng(2)
    for number in range(12):
        for folder in ("photos/" + "ab"[number % 2], "new"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 255, (5, 7, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    first = read_labelled_images("photos")
    digests = dict(zip([str(file) for file in first.files], first.digests(), strict=True))
    apart = [str(file) for file in first.files[::4]]
    trained = [digest for file, digest in digests.items() if file not in apart]
    (own / "split.json").write_text(Split.of(trained, map(digests.get, apart)).to_json())
    # A copy of a held-out image under another name, corrected; and new ones.
    shutil.copy(apart[0], "new/copy.png")
    rows = [("new/copy.png", "b", 0.4)] + [(f"new/{n}.png", "c", 0.3) for n in range(6)]
    write("out.csv", [*rows, ("new/7.png", "", 0.2)], "path,predicted,probability")
    images, _ = table_files("photos,out.csv", None)
    past = Past(own)
    read = read_labelled_images(images)
    train, held_out = past.divide(read, None, split_labelled_images, 0.5, 1)
    outside = dict(zip(map(str, held_out.files), sum(held_out.labels, ()), strict=True))
    assert outside["new/copy.png"] == "b" and apart[0] not in outside
    assert set(apart[1:]) < set(outside)
    assert sum(label == "c" for label in outside.values()) == 3
    assert not set(train.digests()) & set(held_out.digests())
    assert set(map(row_sum, trained)) <= set(map(row_sum, train.digests()))
    assert "1 row still open: left out" in past.notes and "new label 'c': 6 rows" in past.notes


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from("xyz")), min_size=1, max_size=9),
        min_size=2,
        max_size=4,
    )
)
def test_the_last_table_that_has_a_text_gives_its_labels(tables):
    from tfx_transformer.data import LabelledTexts
    from tfx_transformer.data.joined import join_examples

    parts = [
        LabelledTexts([(str(n),) for n, _ in rows], [(label,) for _, label in rows],
                      list(range(2, 2 + len(rows))), f"{number}.csv")
        for number, rows in enumerate(tables)
    ]  # fmt: skip
    found, corrections = settle(join_examples(parts, "all"))
    expected = {}
    for rows in tables:
        expected |= {n: sorted(label for m, label in rows if m == n) for n, _ in rows}
    kept = {}
    for (text,), (label,) in zip(found.texts, found.labels, strict=True):
        kept.setdefault(int(text), []).append(label)
    assert {n: sorted(labels) for n, labels in kept.items()} == expected
    assert all(c.label != c.corrected for c in corrections)


# Which of two models is better


def test_a_comparison_by_hand():
    # Of 10 rows the old model has 5 right and the new 8: 4 by both, 4 by the new one alone.
    old = np.array([1] * 4 + [1] + [0] * 4 + [0], bool)
    new = np.array([1] * 4 + [0] + [1] * 4 + [0], bool)
    found = compare_shares("accuracy", old, new, old_name="own", new_name="own2", kept="new")
    assert (found.old, found.new, found.count) == (0.5, 0.8, 10)
    assert found.difference == paired_difference(new, old)
    assert found.verdict == "no different" and found.better == "new"
    first, second = found.sentences("en")
    assert "own2 against own on the same 10 held-out rows: accuracy 80.0 %" in first
    assert "before 50.0 % (95 %: 23.7 to 76.3)" in first, "Wilson's interval of 5 of 10"
    assert "difference +30.0 points (95 %: " in first
    assert second.startswith("No clear difference. Use own2")
    assert Comparison.from_dict(json.loads(json.dumps(found.to_dict()))) == dataclasses.replace(
        found, kept="new"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "better"),
    [(40, 0, "better", "new"), (0, 40, "worse", "old"), (3, 4, "no different", "old")],
)
def test_verdicts(ours, theirs, verdict, better):
    new = np.array([1] * 50 + [1] * ours + [0] * theirs + [0] * 5, bool)
    old = np.array([1] * 50 + [0] * ours + [1] * theirs + [0] * 5, bool)
    found = compare_shares("accuracy", old, new)
    assert (found.verdict, found.better) == (verdict, better)


def test_a_tie_keeps_the_new_model():
    right = np.array([True, False, True])
    assert compare_shares("accuracy", right, right).better == "new"


def test_means_and_scores_are_paired():
    random = np.random.default_rng(5)
    old = random.random(301)
    new = old + 0.02 + 0.01 * random.random(301)  # always better, by much less than they spread
    means = compare_means("token_f1", old, new)
    scores = compare_scores("spearman", old, new, lambda values, rows: values[rows].mean(), 301)
    for found in (means, scores):
        low, high = found.difference
        assert 0.02 < low < np.mean(new - old) < high < 0.03
        assert found.old_interval.high > found.new_interval.low, "alone they overlap"
        assert found.verdict == "better"


def test_one_example_shows_no_difference():
    found = compare_means("token_f1", [0.5], [0.9])
    assert found.difference is None and found.verdict == "no different"
    json.dumps(found.to_dict(), allow_nan=False)
    assert "difference +0.400." in found.sentences("en")[0]


def test_the_conclusion_begins_with_the_comparison():
    right = np.arange(40) % 3 > 0
    comparison = compare_shares("accuracy", ~right, right, old_name="own", new_name="own",
                                kept="replaced")  # fmt: skip
    known = dataclasses.replace(conclude_labels(right, {"tfidf": ~right}), comparison=comparison)
    for code, name in (("en", "the new own against the old own"), ("ja", "新しいown")):
        first, second, third, *_ = known.sentences(code)
        assert first.startswith(name)
        assert second == " ".join(comparison.sentences(code)[1:])
        assert third == conclude_labels(right, {"tfidf": ~right}).sentences(code)[0]
    figures = json.loads(json.dumps(known.to_dict()))
    assert Conclusion.from_dict(figures).sentences() == known.sentences()


def test_labels_that_a_model_does_not_know_have_probability_0():
    found = with_labels(np.array([[0.2, 0.8]]), ["b", "a"], ["a", "b", "c"])
    assert found.tolist() == [[0.8, 0.2, 0.0]]


def test_a_free_place_beside_a_bundle(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own-2").mkdir()
    assert free_path(tmp_path / "own").name == "own-3"


# evaluate NEW FILE --against OLD


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Makes two bundles of a task, which answer what they are given."""
    from tfx_transformer.cli import comparing, regressors, taggers

    monkeypatch.chdir(tmp_path)

    def make(task, models, **details):
        for name, model in models.items():
            (tmp_path / name).mkdir(exist_ok=True)
            architecture = {"multi_label": False, "image_size": 0}
            config = {"format": 1, "task": task, "architecture": architecture}
            own = {"labels": model.labels.names} if hasattr(model, "labels") else {}
            bundle.write_config(tmp_path / name, config | own | details)

        def opened(path, *_, **__):
            return models[path.name]

        monkeypatch.setattr(comparing, "classifier", opened)
        monkeypatch.setattr(comparing, "open_generator", opened)
        monkeypatch.setattr(regressors, "open_regressor", opened)
        monkeypatch.setattr(taggers, "open_tagger", opened)

    return make


class Says:
    """Answers every text by a table."""

    engine = SimpleNamespace(config=None)

    def __init__(self, answers, names=()):
        self.answers = answers
        if names:
            self.labels = Labels(names)

    def probabilities(self, texts):
        names = self.labels.names
        return np.eye(len(names))[[names.index(self.answers[text]) for (text,) in texts]]

    def generate(self, texts, **_):
        return [self.answers[text] for text in texts]

    def predict(self, texts):
        return np.array([self.answers[text] for (text,) in texts])

    def tag(self, texts):
        return [self.answers[text] for text in texts]


def compared(command, *flags):
    status, output, errors = command("evaluate", "new", "my.csv", "--against", "old", *flags)
    assert status == 0, errors
    return " ".join(output.split())


def test_two_classifiers_on_the_same_rows(command, two):
    old = {"one": "a", "two": "a", "three": "b", "four": "a"}
    new = old | {"two": "b", "four": "b"}
    two("classification", {"old": Says(old, ["a", "b"]), "new": Says(new, ["b", "a", "c"])})
    write("my.csv", [("one", "a"), ("two", "b"), ("three", "b"), ("four", "b"), ("five", "c")])
    text = compared(command)
    assert "1 row left out: one of the bundles does not know the label." in text
    assert "new against old on the same 4 held-out rows: accuracy 100.0 %" in text
    assert "before 50.0 %" in text and "difference +50.0 points" in text
    low, high = paired_difference(np.ones(4, bool), np.array([1, 0, 1, 0], bool))
    assert f"(95 %: {100 * low:+.1f} to {100 * high:+.1f})" in text


def test_two_translators_on_the_same_rows(command, two):
    rows = [(f"text {n}", f"the answer number {n} is long enough") for n in range(12)]
    old = {source: "the answer is wrong in all of its words" for source, _ in rows}
    two("seq2seq", {"old": Says(old), "new": Says(dict(rows))})
    write("my.csv", rows, "source,target")
    text = compared(command)
    assert "on the same 12 held-out rows: BLEU 100.0" in text
    assert "The new model is better." in text


def test_two_regressors_on_the_same_rows(command, two):
    rows = [(f"text {n}", n) for n in range(20)]
    two("regression", {"old": Says({t: n + 3 for t, n in rows}),
                       "new": Says({t: n - 1 + n % 2 / 10 for t, n in rows})})  # fmt: skip
    write("my.csv", rows, "text,target")
    text = compared(command)
    assert "mean absolute error 0.95" in text and "before 3" in text
    assert "The new model is better." in text, "less is better"


def test_two_taggers_on_the_same_rows(command, two):
    rows = [f"Tokyo {n}" for n in range(6)]
    with open("my.jsonl", "w") as file:
        for text in rows:
            spans = [{"start": 0, "end": 5, "label": "place"}]
            file.write(json.dumps({"text": text, "spans": spans}) + "\n")

    class Span:
        start, end, label = 0, 5, "place"

    two("tagging", {"old": Says({t: [] for t in rows}), "new": Says({t: [Span()] for t in rows})})
    status, output, errors = command("evaluate", "new", "my.jsonl", "--against", "old")
    assert status == 0, errors
    assert "100.0 %" in output and "The new model is better." in output


def test_what_cannot_be_compared_is_refused(command, two):
    says = Says({"one": "a"}, ["a", "b"])
    two("classification", {"old": says, "new": says})
    write("my.csv", [("one", "x")])
    status, _, errors = command("evaluate", "new", "my.csv", "--against", "old")
    assert status == 2 and "no row has a label that both bundles know" in errors
    status, _, errors = command(
        "evaluate", "new", "my.csv", "--against", "old", "--save", "out.csv"
    )
    assert status == 2 and "--save writes the answers of one bundle" in errors
    config = bundle.read_config("old")
    bundle.write_config(
        Path("old"), config | {"architecture": {"multi_label": True, "image_size": 0}}
    )
    status, _, errors = command("evaluate", "new", "my.csv", "--against", "old")
    assert status == 2 and "old gives other answers than new" in errors
    status, _, errors = command("evaluate", "new", "my.csv", "--against", "nowhere")
    assert status == 2 and "nowhere is not a bundle" in errors


def test_less_is_better_of_an_error():
    old, new = np.full(9, 2.0), np.full(9, 1.0)
    found = compare_means("mae", old, new)
    assert (found.verdict, found.better) == ("better", "new")
    found = compare_means("mae", new, old)
    assert (found.verdict, found.better) == ("worse", "old")
