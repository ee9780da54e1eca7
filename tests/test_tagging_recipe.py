"""The recipe `tagging`: from a table to a bundle that marks texts, everywhere alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import tensorflow as tf
from pages import report_of
from processes import RUN_PYZ, TRAINING, python

from tfx_transformer import cli, export, runtime
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data import read_tagged_texts, tag_names
from tfx_transformer.export.serving import tagger_serving
from tfx_transformer.export.verify_encoder import _run_saved_tagger
from tfx_transformer.models.encoders import config_for_fine_tuning, copy_weights
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.saving import load, save
from tfx_transformer.models.tagger import Tagger
from tfx_transformer.text.tokenizer import FINE_PATTERN, Tokenizer

PEOPLE = ["Ann", "Bo Lee", "Zoë", "田中", "森"]
PLACES = ["Oslo", "New York", "京都", "Rome", "奈良"]
PATTERNS = ["{} lives in {}.", "{} saw {} today.", "{}さんは{}にいます。", "{} left {}"]
ROWS = []
for _person in PEOPLE:
    for _place in PLACES:
        for _pattern in PATTERNS:
            _start = len(_pattern.partition("{}")[2].partition("{}")[0]) + len(_person)
            ROWS.append(
                {
                    "said": _pattern.format(_person, _place),
                    "entities": [
                        [0, len(_person), "PERSON"],
                        [_start, _start + len(_place), "PLACE"],
                    ],
                }
            )
ROWS += [{"said": f"It rains {word}.", "entities": []} for word in ("now", "again", "a lot")]
LONG = " ".join(["Ann lives in Oslo, and Bo Lee saw Rome today."] * 3)
TEXTS = ["Bo Lee lives in Rome.", "田中さんは京都にいます。", "", LONG, "👩\u200d🔬 e\u0301"]


def _lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which the recipe has run, and its result."""
    folder = tmp_path_factory.mktemp("tagging")
    _lines(folder / "my.jsonl", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = cli.recipe_main("tagging")(
            data="my.jsonl",
            text="said",
            name="mine",
            size="nano",
            layers=1,
            width=32,
            vocabulary_size=290,
            ngram_buckets=97,
            max_length=23,
            epochs=16,
            new_names=0.0,
            learning_rate=1e-2,
            share=0.2,
            average=0.0,
            example="Ann is here",
        )
    return folder, result


@pytest.fixture(scope="module")
def by_keras(made):
    model, tokenizer = load(made[0] / "saved_models/mine", task="tagging")
    return predictor(model, tokenizer, tag_names(["PERSON", "PLACE"]))


def test_the_model_marks_what_it_has_learnt(made):
    scores = made[1]["scores"]
    assert scores["entity_f1"] > 0.9  # a dictionary reaches 1: the names are those of the training
    assert (
        scores["count"]
        == json.loads((made[0] / "runs/mine/data.json").read_text("utf-8"))[1]["spans"]
    )
    verified = made[1]["verified"]
    assert set(verified) == {"SavedModel", "TFLite float32", "TFLite int8"}
    assert all(found["identical"] >= 0.95 * found["of"] for found in verified.values())
    assert made[1]["conclusion"]["measure"] == "entity_f1"


def test_every_engine_marks_the_same(made, by_keras):
    path = made[0] / "saved_models/mine"
    expected = by_keras.tag(TEXTS)
    assert len(expected[3]) >= 10 and expected[2] == []  # the long text is read to its end
    for text, entities in zip(TEXTS, expected, strict=True):
        assert all(text[one.start : one.end] == one.text for one in entities)
        assert all(0 < one.probability <= 1 for one in entities)
    by_litert = runtime.load(path, kind=runtime.TextTagger)
    _same(by_litert.tag(TEXTS), expected)
    _same(
        [entities for entities, _ in _run_saved_tagger(path, TEXTS, by_keras.tokenizer)], expected
    )
    shown = python(RUN_PYZ, path / "run.pyz", "--json", *TEXTS[:2], cwd=made[0], blocked=TRAINING)
    answers = [one["answer"] for one in json.loads(shown)["answers"]]
    _same([[runtime.Entity(**one) for one in answer] for answer in answers], expected[:2])


@pytest.mark.slow
def test_four_bits_mark_nearly_the_same(made, by_keras, tmp_path):
    path = tmp_path / "mine"
    shutil.copytree(made[0] / "saved_models/mine", path)
    export.litert(path, "int4")
    found = runtime.load(path, "int4").tag([row["said"] for row in ROWS])
    expected = by_keras.tag([row["said"] for row in ROWS])
    pairs = zip(found, expected, strict=True)
    equal = sum([e[:4] for e in a] == [e[:4] for e in b] for a, b in pairs)
    assert equal >= 0.75 * len(ROWS)


def _same(found, expected):
    assert [[e[:4] for e in es] for es in found] == [[e[:4] for e in es] for es in expected]
    sure = [[e.probability for es in several for e in es] for several in (found, expected)]
    np.testing.assert_allclose(*sure, atol=1e-4)


def test_tables_get_a_column_of_spans_that_is_read_again(made, by_keras, command):
    path = made[0] / "saved_models/mine"
    texts = [text for text in TEXTS if text]
    pandas.DataFrame({"said": texts, "n": range(4)}).to_csv("in.csv", index=False)
    expected = [[e._asdict() for e in es] for es in by_keras.tag(texts)]
    for name in ("out.jsonl", "out.csv", "out.xlsx", "out.parquet"):
        status, _, errors = command("predict", path, "in.csv", "--save", name)
        assert status == 0, errors
        read = read_tagged_texts(name, "said")
        assert read.texts == texts
        assert [[list(s) for s in spans] for spans in read.spans] == [
            [[e["start"], e["end"], e["label"]] for e in es] for es in expected
        ]
    first = json.loads(Path("out.jsonl").read_text("utf-8").partition("\n")[0])
    assert first["spans"][0]["text"] == "Bo Lee" and first["n"] == "0"
    frame = pandas.DataFrame({"said": [*texts, None]})
    with pytest.warns(UserWarning, match="1 of 5 rows"):
        found = by_keras.predict_table(frame, "said", unsure=1.0)["spans"]
    assert found[0] == [] and found[4] is None


def test_verbs_ask_and_score_it(made, command):
    path = made[0] / "saved_models/mine"
    status, shown, _ = command("tag", path, TEXTS[0], "It rains now.")
    assert status == 0 and "PERSON: Bo Lee" in shown and "none   It rains" in shown
    _lines(made[0] / "held.jsonl", ROWS[:23])
    status, shown, _ = command(
        "evaluate", path, made[0] / "held.jsonl", "--text", "said", "--save", "wrong.csv", "--json"
    )
    scores = json.loads(shown)
    assert status == 0 and scores["count"] == 46 and scores["entity_f1"] > 0.9
    assert set(scores["per_class"]) == {"PERSON", "PLACE"}
    status, shown, _ = command("check", made[0] / "my.jsonl", "--text", "said")
    assert status == 0 and "200; 3 rows" in shown
    status, _, errors = command("classify", path, "a")
    assert status == 2 and "Expected a classifier" in errors


def test_the_report_shows_texts_with_marks(made):
    shown = f"{100 * made[1]['scores']['entity_f1']:.1f} %"
    report_of(made[0] / "runs/mine", made[0] / "saved_models/mine", {"entity F1": shown})
    text = (made[0] / "runs/mine/report.html").read_text("utf-8")
    assert "tfx-transformer tag " in text and "model.tag(" in text
    card = (made[0] / "saved_models/mine/README.md").read_text("utf-8")
    assert "pipeline_tag: token-classification" in card and "B-PERSON" in card
    assert "model.tag(['Ann is here'])" in card


@pytest.mark.slow
def test_a_bundle_is_a_base(made, monkeypatch):
    monkeypatch.chdir(made[0])
    _lines(made[0] / "few.jsonl", [row for row in ROWS if "lives" in row["said"]])
    monkeypatch.setattr(export, "everything", lambda *_, **__: {})
    result = cli.recipe_main("tagging")(
        data="few.jsonl", text="said", base="saved_models/mine", name="again", epochs=1, share=0.3,
        learning_rate=1e-3, average=0.0, new_names=0.0,
    )  # fmt: skip
    assert result["scores"]["count"] > 0


def test_the_graph_names_the_places_of_tokens_in_lower_case():
    """İ has 2 bytes, and 3 in lower case; Ⱥ 2 and 3; the sign of kelvin 3 and 1. All tokens are
    bytes."""
    tokenizer = Tokenizer.train([], 259, lowercase=True)
    sizes = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_sequence_length": 11}
    config = TransformerConfig.of_size("nano", tokenizer.vocabulary_size, "bert", **sizes)
    model = Tagger(config_for_fine_tuning(config, num_classes=3))
    _, serve, inputs = tagger_serving(model, tokenizer, {"labels": tag_names(["PERSON"])})
    found = tf.function(serve, input_signature=inputs)(tf.constant(["İA\N{KELVIN SIGN}é", "Ⱥ"]))
    starts, ends = [0, 0, 0, 1, 2, 3, 3], [1, 1, 1, 2, 3, 4, 4]
    assert found["starts"].numpy().tolist() == [starts, [0] * 7]
    assert found["ends"].numpy().tolist() == [ends, [1, 1, 1, 0, 0, 0, 0]]


def test_a_style_of_bert_becomes_a_folder_for_transformers(tmp_path):
    tokenizer = Tokenizer.train(TEXTS, 290, pattern=FINE_PATTERN)
    sizes = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "max_sequence_length": 11}
    config = TransformerConfig.of_size("nano", tokenizer.vocabulary_size, "bert", **sizes)
    base = Tagger(config_for_fine_tuning(config, num_classes=5))
    save(tmp_path / "bert", base, tokenizer, labels=tag_names(["PERSON", "PLACE"]))
    export.transformers(tmp_path / "bert")
    folder = tmp_path / "bert/transformers"
    values = json.loads((folder / "config.json").read_text("utf-8"))
    assert values["architectures"] == ["RobertaForTokenClassification"]  # a BERT without segments
    assert values["id2label"] == dict(zip("01234", tag_names(["PERSON", "PLACE"]), strict=True))
    read, _ = from_pretrained(folder)
    ids = np.array([[1, 5, 7, 11, 2]], "int32")
    np.testing.assert_allclose(read(ids), base(ids), atol=1e-5)
    model = Tagger(config_for_fine_tuning(read.config, num_classes=3))
    copy_weights(model, read)
    np.testing.assert_allclose(*(np.asarray(m.embedding.embeddings) for m in (model, base)))
