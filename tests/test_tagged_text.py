"""Texts with marked spans: what is read, refused and made into batches."""

from __future__ import annotations

import json
import random

import numpy as np
import pandas
import pytest

from tfx_transformer.data import (
    Span,
    describe_tagged_texts,
    read_tagged_texts,
    split_tagged_texts,
    tagged_texts,
)
from tfx_transformer.data.other_letters import OtherLetters
from tfx_transformer.data.tag_rows import ENDINGS
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.span_baselines import dictionary_spans, linear_spans
from tfx_transformer.text.tokenizer import FINE_PATTERN, Tokenizer

ANN = {"text": "Ann met Bo in 東京.", "spans": [[14, 16, "PLACE"], [0, 3, "PERSON"]]}
SPANS = (Span(0, 3, "PERSON"), Span(14, 16, "PLACE"))


def _lines(tmp_path, *rows, name="my.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


FORMS = {
    "objects": ("spans", [{"start": s.start, "end": s.end, "label": s.label} for s in SPANS]),
    "lists, as spaCy and doccano write them": ("label", [[14, 16, "PLACE"], [0, 3, "PERSON"]]),
    "entities of doccano": (
        "entities",
        [
            {"id": 7, "label": "PERSON", "start_offset": 0, "end_offset": 3},
            {"id": 8, "label": "PLACE", "start_offset": 14, "end_offset": 16},
        ],
    ),
    "of Label Studio": (
        "label",
        [
            {"start": 0, "end": 3, "text": "Ann", "labels": ["PERSON"]},
            {"start": 14, "end": 16, "text": "東京", "labels": ["PLACE"]},
        ],
    ),
    "JSON in a cell": ("spans", '[[0, 3, "PERSON"], [14, 16, "PLACE"]]'),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_spans_say_the_same(form, tmp_path):
    column, value = FORMS[form]
    read = read_tagged_texts(_lines(tmp_path, {"text": ANN["text"], column: value}))
    assert (read.texts, read.spans, read.columns["spans"]) == ([ANN["text"]], [SPANS], column)


def test_formats_say_the_same(tmp_path):
    frame = pandas.DataFrame([ANN, {"text": "nothing", "spans": []}])
    cells = frame.assign(spans=frame["spans"].map(json.dumps))
    cells.to_csv(tmp_path / "a.csv", index=False)
    cells.to_excel(tmp_path / "a.xlsx", index=False)
    objects = [[dict(zip(("start", "end", "label"), s, strict=True)) for s in SPANS], []]
    frame.assign(spans=objects).to_parquet(tmp_path / "a.parquet")
    for data in (tmp_path / "a.csv", tmp_path / "a.xlsx", tmp_path / "a.parquet", frame,
                 frame.to_dict("records"), frame.to_dict("list")):  # fmt: skip
        assert read_tagged_texts(data).spans == [SPANS, ()]


TEXT = "Zoë 👩\u200d🔬 e\u0301!"
REFUSED = {
    "beyond the end": ([[0, 40, "P"]], "from 0 to 40.*has 11 characters.*code points"),
    "before the beginning": ([[-1, 2, "P"]], "from -1 to 2"),
    "empty": ([[2, 2, "P"]], "from 2 to 2"),
    "overlapping": ([[0, 3, "P"], [2, 7, "Q"]], "P 'Zoë' .0 to 3. and Q .* overlap.*remove a span"),
    "the same twice": ([[0, 3, "P"], [0, 3, "P"]], "overlap"),
    "within an emoji": ([[4, 5, "P"]], "within a character, at 5"),
    "between a letter and its mark": ([[9, 10, "P"]], "within a character, at 9"),
    "a blank at the end": ([[0, 4, "P"]], "blank.*from 0 to 3"),
    "only a blank": ([[3, 4, "P"]], "only blanks"),
    "no label": ([[0, 3, " "]], "has no label"),
    "a number for a label": ([[0, 3, 1]], "the label 1"),
    "a text for a number": ([["0", 3, "P"]], "the start 0.*whole number"),
    "half a character": ([[0, 2.5, "P"]], "the end 2.5"),
    "another text": ([{"start": 0, "end": 3, "label": "P", "text": "Zoe"}], "UTF-16"),
    "two numbers": ([[0, 3]], "is not a span"),
    "an object": ({"start": 0}, "holds no list"),
    "no JSON": ("[[0, 3", "not JSON"),
    "a key twice": ('[{"start": 0, "start": 1, "end": 3, "label": "P"}]', "twice"),
    "nothing": ("", "is empty"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_bad_span_is_named_with_file_row_column_and_remedy(fault, tmp_path):
    spans, said = REFUSED[fault]
    path = _lines(tmp_path, {"text": "Zoë", "spans": [[0, 3, "P"]]}, {"text": TEXT, "spans": spans})
    with pytest.raises(InputError, match=rf"(?s)my.jsonl, row 2: column 'spans'.*{said}"):
        read_tagged_texts(path)
    read = read_tagged_texts(path, skip_bad_rows=True)
    assert read.texts == ["Zoë"] and [bad.row for bad in read.bad_rows] == [2]


COLUMNS = """-DOCSTART- O

Ann NNP B-PERSON
Lee NNP I-PERSON
lives VBZ O

# a comment
東京 NNP B-PLACE
タワー NN I-PLACE
# NN O
"""


def test_columns_become_texts_and_rows_are_lines(tmp_path):
    path = tmp_path / "my.conll"
    path.write_text(COLUMNS.replace("-DOCSTART- O", "-DOCSTART- -X- O"), "utf-8")
    read = read_tagged_texts(path)
    assert read.texts == ["Ann Lee lives", "東京タワー#"]
    assert read.spans == [(Span(0, 7, "PERSON"),), (Span(0, 5, "PLACE"),)]
    assert read.rows == [3, 8]
    tabs = tmp_path / "tabs.bio"
    tabs.write_text("New York\tB-PLACE\r\nis\tO\r\n", "utf-8")
    assert read_tagged_texts(tabs).texts == ["New York is"]


def test_a_table_of_tags(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text(
        "sentence,token,tag\n1,Ann,B-P\n,met,O\n,Bo,B-P\n2,NA,O\n2,null,B-Q\n", encoding="utf-8"
    )
    read = read_tagged_texts(path)
    assert read.texts == ["Ann met Bo", "NA null"] and read.rows == [2, 5]
    assert read.spans == [(Span(0, 3, "P"), Span(8, 10, "P")), (Span(3, 7, "Q"),)]
    frame = pandas.read_csv(path, keep_default_na=False)
    assert read_tagged_texts(frame).texts == read.texts


BAD_TAGS = {
    "I- at the beginning": ("a I-X", "'I-X' follows 'O'.*B-X where a span begins"),
    "I- of another label": ("a B-X\nb I-Y", "'I-Y' follows 'B-X', but no span of 'Y' has begun"),
    "BIOES": ("a S-X", "'S-X' is not one of IOB2.*S- and U- as B-"),
    "no prefix": ("a PERSON", "'PERSON' is not one of IOB2"),
    "no label": ("a B-", "'B-' is not"),
    "lower case": ("a b-X", "'b-X' is not"),
    "a column less": ("a x O\nb O", "the line has 2 columns, the first one has 3"),
    "one column": ("a", "has 1 column"),
    "a mark by itself": ("か B-X\n\u3099 O", "within a character"),
}


@pytest.mark.parametrize("fault", BAD_TAGS)
def test_a_bad_tag_is_named_with_its_rule(fault, tmp_path):
    rows, said = BAD_TAGS[fault]
    path = tmp_path / "my.conll"
    path.write_text(rows + "\n", "utf-8")
    with pytest.raises(InputError, match=f"(?s)my.conll, row .*{said}"):
        read_tagged_texts(path)


def test_a_bad_row_leaves_its_sentence_out(tmp_path):
    path = tmp_path / "my.conll"
    path.write_text("a O\nb I-X\n\nc B-X\n", "utf-8")
    read = read_tagged_texts(path, skip_bad_rows=True)
    assert (read.texts, read.bad_rows[0].row) == (["c"], 2)
    table = tmp_path / "my.csv"
    table.write_text("sentence,token,tag\n1,a,O\n2,b\n2,c,O\n3,d,B-X\n", "utf-8")
    read = read_tagged_texts(table, skip_bad_rows=True)
    assert (read.texts, [bad.row for bad in read.bad_rows]) == (["d"], [3])


def test_a_sentence_in_two_places_is_refused():
    with pytest.raises(InputError, match="sentence '1'.*twice"):
        read_tagged_texts({"sentence": [*"121"], "token": [*"abc"], "tag": [*"OOO"]})
    with pytest.raises(InputError, match="no column of spans"):
        read_tagged_texts([{"text": "a", "other": "b"}])


def test_nothing_is_changed_silently(tmp_path):
    """Whatever the spans are: they are read as they were written, or the row is refused."""
    draw = random.Random(7)
    pieces = ["a", "Bo", " ", "\n", "東", "か\u3099", "👩\u200d🔬", "é", ",", '"', "\t", "1"]
    texts, written = [], []
    for _ in range(400):
        text = "".join(draw.choice(pieces) for _ in range(draw.randint(1, 9)))
        spans = [
            [draw.randint(0, len(text)), draw.randint(0, len(text) + 1), draw.choice("XY")]
            for _ in range(draw.randint(0, 2))
        ]
        texts.append(text)
        written.append(spans)
    rows = [{"text": t, "spans": s} for t, s in zip(texts, written, strict=True)]
    read = read_tagged_texts(_lines(tmp_path, *rows), skip_bad_rows=True)
    assert {*read.rows, *(bad.row for bad in read.bad_rows)} == set(range(1, 401))
    assert 50 < len(read) < 350
    for row, text, spans in zip(read.rows, read.texts, read.spans, strict=True):
        assert text == texts[row - 1]
        assert sorted(map(list, spans)) == sorted(written[row - 1])
    # The same through tags, a character a token, where each is a word of its own.
    kept = [(t, s) for t, s in zip(read.texts, read.spans, strict=True) if t.isalpha()]
    path = tmp_path / f"tags{ENDINGS[0]}"
    lines = []
    for text, spans in kept:
        tags = ["O"] * len(text)
        for start, end, label in spans:
            tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
        lines.append("".join(f"{c}\t{t}\n" for c, t in zip(text, tags, strict=True)))
    path.write_text("\n".join(lines), "utf-8")
    again = read_tagged_texts(path)
    assert [t.replace(" ", "") for t in again.texts] == [t for t, _ in kept]
    assert [[s.label for s in spans] for spans in again.spans] == [
        [s.label for s in spans] for _, spans in kept
    ]


@pytest.fixture(scope="module")
def examples():
    rows = [
        {"text": f"{name} lives in {place}.", "spans": [[0, len(name), "P"],
         [len(name) + 10, len(name) + 10 + len(place), "Q"]]}
        for name in ("Ann", "Bo Lee", "田中", "Zoë") for place in ("Oslo", "New York", "京都")
    ]  # fmt: skip
    return read_tagged_texts([*rows, {"text": "It rains.", "spans": []}])


def test_batches_hold_windows_in_which_each_token_weighs_once(examples):
    tokenizer = Tokenizer.train(examples.texts, 280, pattern=FINE_PATTERN)
    batches = tagged_texts(
        examples, tokenizer, ["P", "Q"], batch_size=3, max_length=9, shuffle=False
    )
    weight, begins = 0, 0
    for inputs, tags, weights in batches:
        ids, tags, weights = (part.numpy() for part in (inputs["token_ids"], tags, weights))
        assert ids.shape == tags.shape == weights.shape and ids.shape[1] <= 9  # not a multiple of 4
        assert not weights[ids <= 2].any()  # <pad>, <s> and </s>
        weight += int(weights.sum())
        begins += int((weights * np.isin(tags, [1, 3])).sum())
    offsets = [tokenizer.encode_with_offsets(text)[1] for text in examples.texts]
    assert weight == sum(start < end for several in offsets for start, end in several)
    assert begins == sum(map(len, examples.spans))
    with pytest.raises(InputError, match="label 'Q' is not known"):
        tagged_texts(examples, tokenizer, ["P"])
    with pytest.raises(InputError, match="max_length is 2"):
        tagged_texts(examples, tokenizer, ["P", "Q"], max_length=2)


def test_new_names_keep_their_form(examples):
    letters = OtherLetters(examples.texts)
    draw = np.random.default_rng(3)
    for text, spans in zip(examples.texts, examples.spans, strict=True):
        other = letters.replace(text, spans, 0.999, draw)
        assert len(other) == len(text)
        for before, after in zip(text, other, strict=True):
            assert before.isupper() == after.isupper() and before.isspace() == after.isspace()
            assert before.isascii() or not after.isascii() or before == "ë"
    assert letters.replace("Ann.", (), 0.0, draw) == "Ann."


def test_the_summary_counts_spans_that_cut_a_word():
    rows = [
        {"text": "Ann met Bo", "spans": [[0, 2, "P"], [8, 10, "P"]]},
        {"text": "Bo met Ann", "spans": []},
    ]
    read = read_tagged_texts(rows)
    tokenizer = Tokenizer.train(read.texts, 259, pattern=FINE_PATTERN)
    (summary,) = describe_tagged_texts(read, None, tokenizer, ["P"], 7)
    assert (summary.spans, summary.inexact, summary.unmarked, summary.windowed) == (2, 1, 1, 2)
    assert "1 span (50.0 %) cut" in "\n".join(summary.lines())


def test_parts_are_of_different_texts(examples):
    inside, outside = split_tagged_texts(examples, 0.25, seed=3)
    assert not {*inside.texts} & {*outside.texts}
    assert len(inside) + len(outside) == len(examples)
    with pytest.raises(InputError, match="no text has a span"):
        read_tagged_texts([{"text": "a", "spans": []}]).labels()


def test_baselines_by_hand(examples):
    texts = ["Ann saw New York and Annabel", "田中は京都へ"]
    found = dictionary_spans(examples.texts, examples.spans, texts)
    assert found == [
        [Span(0, 3, "P"), Span(8, 16, "Q")],  # not the Ann of Annabel; the longest, New York
        [Span(0, 2, "P"), Span(3, 5, "Q")],
    ]
    (spans,) = linear_spans(examples.texts, examples.spans, ["Mia lives in Rome."])
    assert spans == [Span(0, 3, "P"), Span(13, 17, "Q")]
