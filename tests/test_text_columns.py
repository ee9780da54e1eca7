"""Classifiers of several texts a row: their SavedModel, the command, run.pyz and the bundle."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf
from encoder_bundles import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import RUN_PYZ, TRAINING, python
from tiny_models import tiny_encoder

from tfx_transformer import bundle, export, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.export import serving
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import save, update_config
from tfx_transformer.text.conventions import Frame
from tfx_transformer.text.framing import frame

ROWS = [("the cat", "a dog"), ("", "猫が見る")]


# SavedModel


@pytest.mark.slow  # a regressor of two columns is read in its recipe
def test_the_savedmodel_reads_several_columns(encoder_words, tmp_path):
    path, size = tmp_path / "b", encoder_words.vocabulary_size
    model = tiny_encoder(Classifier, vocabulary_size=size, num_classes=3)
    columns = ["title", "the_body"]
    save(path, model, encoder_words, labels=NAMES, text_columns=2, columns=columns)
    export.saved_model(path)
    words = ["the cat", "", "猫が見る", "a dog sees " * 3, "the cat and a dog " * 9]
    rows = [(a, b) for a in words for b in words]
    expected = predictor(model, encoder_words, NAMES).probabilities(rows)
    first, second = (tf.constant(column) for column in zip(*rows, strict=True))
    served = tf.saved_model.load(str(path / bundle.SAVED_MODEL))
    for answer in (
        served.serve(first, second),
        served.signatures["serve"](title=first, the_body=second),
    ):
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        labels = [label.decode("utf-8") for label in answer["labels"].numpy()]
        assert labels == [NAMES[best] for best in expected.argmax(axis=1)]
    assert len(set(labels)) > 1
    results = export.verify(path, rows)
    assert results["SavedModel"]["identical"] == results["SavedModel"]["of"] == len(rows)


@pytest.mark.parametrize("columns", [(), ("表題", "本文"), ("a title", "body"), ("title",)])
def test_columns_that_cannot_name_an_input(columns):
    names = serving.input_names({"text_columns": 2, "columns": columns})
    assert names == ["text_1", "text_2"]


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=1, max_size=7),
    st.integers(1, 3),
    st.integers(4, 23),
)
@pytest.mark.parametrize("around", [((1,), (2,), (2,)), ((), (7, 7), (9,)), ((), (), ())])
def test_rows_are_cut_in_the_graph_as_outside_of_it(around, lengths, count, longest):
    # The texts are ids already.
    spelled = types.SimpleNamespace(
        frame=Frame(*around),
        end_id=2,
        encode=list,
        encode_first=lambda ids, count: list(ids)[: max(count, 0)],
    )
    if longest <= spelled.frame.size(count):
        longest = spelled.frame.size(count) + 1
    rows = [[list(range(20 * i, 20 * i + n)) for i, n in enumerate(r[:count], 1)] for r in lengths]
    columns = [
        tf.ragged.constant(list(column), tf.int32, ragged_rank=1)
        for column in zip(*rows, strict=True)
    ]
    found = serving.frame_rows(columns, spelled, longest)
    empty = [] if around[2] else [[]]  # without a frame an empty text would be nothing
    for ids, row in zip(found.to_list(), rows, strict=True):
        assert ids in (frame(spelled, row, longest), *empty)


# The command and run.pyz


@pytest.fixture
def of_two(text_classifier, tmp_path):
    """The path of a bundle that reads two texts a row."""
    path = text_classifier.copy(tmp_path)
    update_config(path, text_columns=2, columns=["title", "body"], example=["the cat", "it's"])
    return path


def test_the_card_gives_every_text_of_a_row(of_two):
    card = (of_two / "README.md").read_text("utf-8")
    assert """    python run.pyz 'the cat' 'it'"'"'s'\n""" in card


@pytest.mark.parametrize("engine", ["litert", "keras"])
def test_the_command_labels_rows(command, of_two, engine):
    found = runtime.load(of_two).classify(ROWS)
    assert abs(found[0].probability - found[1].probability) > 0.1, "or the order would not show"
    verb = ("classify", of_two, *ROWS[0], *ROWS[1], "--engine", engine)
    status, output, _ = command(*verb)
    assert status == 0
    assert output.splitlines() == [
        f"{runtime.describe(one)}   {' | '.join(row)}" for one, row in zip(found, ROWS, strict=True)
    ]
    answers = json.loads(command(*verb, "--json")[1])["answers"]
    assert [answer["input"] for answer in answers] == [list(row) for row in ROWS]


def test_rows_are_complete(command, of_two):
    status, output, errors = command("classify", of_two, "the cat", "a dog", "猫")
    assert (status, output) == (2, "")
    assert errors == (
        "the model reads 2 texts for each row (title, body); 3 are given.\n"
        '  Give the texts of a row one after the other, "" for an empty one.\n'
    )
    with pytest.raises(InputError, match="reads 3 texts for each row; 4 are given"):
        runtime.rows_of(["a"] * 4, {"text_columns": 3})
    assert runtime.rows_of(["a", "b"], {}) == ["a", "b"]


def test_run_pyz_labels_rows(of_two, tmp_path):
    found = runtime.load(of_two).classify(ROWS)
    arguments = (*ROWS[0], *ROWS[1], "--json")
    output = python(RUN_PYZ, of_two / "run.pyz", *arguments, cwd=tmp_path, blocked=TRAINING)
    answers = [{"text": r, "answer": f._asdict()} for r, f in zip(ROWS, found, strict=True)]
    assert json.loads(output) == json.loads(json.dumps({"answers": answers}))
