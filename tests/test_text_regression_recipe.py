"""The recipe `text_regression` from a table to a bundle that estimates, and what it leaves."""

import json
import os

import numpy as np
import pandas
import pytest
import tensorflow as tf
from pages import report_of
from processes import RUN_PYZ, TRAINING, python
from serving import running
from sklearn import metrics

import tfx_transformer as tfx
from tfx_transformer import bundle, cli, export, runtime
from tfx_transformer.cli.recipes import recipe_main
from tfx_transformer.data import read_scored_texts
from tfx_transformer.models.lora import settings_of
from tfx_transformer.models.pretrained.saving import family_for
from tfx_transformer.models.regressor import in_units
from tfx_transformer.reprs import significant

THINGS = {"cup": 10.5, "lamp": 40, "猫": 75, "chair": 120}
STATES = {"new": 1.0, "used": 0.5, "broken": 0.1}
ROWS = [
    (f"{start} {thing} {end}", state, 1000 + price * factor)
    for thing, price in THINGS.items()
    for state, factor in STATES.items()
    for start in ("A", "The", "This")
    for end in ("here", "there")
]
SETTINGS = {
    "csv": "my.csv",
    "text": "offer,state",
    "target": "price",
    "decimal": ",",
    "share": 0.25,
    "name": "mine",
    "size": "nano",
    "vocabulary_size": 290,
    "max_length": 13,
    "ngram_buckets": 0,
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 5e-3,
}


def write(path, rows):
    lines = [f"{offer};{state};{price:.2f}".replace(".", ",") for offer, state, price in rows]
    path.write_text("\n".join(["offer;state;price", *lines]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder in which the recipe has run, and what it returned."""
    folder = tmp_path_factory.mktemp("regression")
    write(folder / "my.csv", ROWS)
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield folder, recipe_main("text_regression")(**SETTINGS)
    finally:
        os.chdir(before)


@pytest.fixture
def model(finished):
    return runtime.load(finished[0] / "saved_models/mine", kind=runtime.TextRegressor)


def inputs():
    return [(offer, state) for offer, state, _ in ROWS]


def test_the_numbers_have_the_unit_of_the_data(finished, model):
    _, result = finished
    found = model.predict(inputs())
    assert found.shape == (len(ROWS),) and found.dtype == "float32"
    # An untrained read-out gives 0, standardized, which is the mean.
    assert found.min() > 1000 and found.max() < 1130
    config = bundle.read_config("saved_models/mine")
    target = config["target"]
    assert config["task"] == "regression" and target["column"] == "price"
    assert config["columns"] == ["offer", "state"] and config["text_columns"] == 2
    assert 1000 < target["mean"] < 1060 and 5 < target["deviation"] < 60
    assert result["target"] == target
    assert model.predict("A lamp here") == model.predict(["A lamp here"])[0]


def test_every_export_was_verified(finished):
    verified = finished[1]["verified"]
    assert verified.keys() == {"SavedModel", "TFLite float32", "TFLite int8"}
    for name in ("SavedModel", "TFLite float32"):
        assert verified[name]["identical"] == verified[name]["of"] == 18
    assert verified["TFLite int8"]["largest_difference"] < 10
    assert not any(result.get("removed") for result in verified.values())


def test_the_savedmodel_reads_the_columns_by_their_names(finished, model):
    words = ["A lamp here", "", "猫", "new", "The chair there " * 9]
    rows = [(a, b) for a in words for b in words]
    offers, states = (tf.constant(column) for column in zip(*rows, strict=True))
    served = tf.saved_model.load(str(finished[0] / "saved_models/mine/saved_model"))
    expected = model.predict(rows)
    assert len(set(expected.tolist())) > 5
    for answer in (
        served.serve(offers, states),
        served.signatures["serve"](offer=offers, state=states),
    ):
        np.testing.assert_allclose(answer["predictions"], expected, rtol=1e-5)


def test_the_scores_are_those_of_the_bundle(finished):
    folder, result = finished
    predictions = pandas.read_csv("runs/mine/predictions.csv")
    truth, found = predictions["target"], predictions["prediction"]
    assert result["scores"]["count"] == len(truth) == 18
    assert np.isclose(result["scores"]["mae"], metrics.mean_absolute_error(truth, found), rtol=1e-4)
    assert np.isclose(result["scores"]["r2"], metrics.r2_score(truth, found), atol=1e-4)
    record = json.loads((folder / "runs/mine/result.json").read_text("utf-8"))
    mean = record["baselines"]["the mean of the training rows"]
    by_hand = np.abs(truth - result["target"]["mean"]).mean()
    assert np.isclose(mean["mae"], by_hand, rtol=1e-4) and mean["spearman"] is None
    assert record["conclusion"]["baseline"] in ("mean", "ridge")
    mistakes = pandas.read_csv("runs/mine/mistakes.csv")
    errors = (found - truth).abs().sort_values(ascending=False)
    assert np.allclose(mistakes["error"].abs(), errors, rtol=1e-3)


def test_the_report_shows_points_and_words(finished):
    folder, result = finished
    error = significant(result["scores"]["mae"])
    run, made = folder / "runs/mine", folder / "saved_models/mine"
    report_of(run, made, {"mean absolute error (lower is better)": error})
    text = (run / "report.html").read_text("utf-8")
    assert text.count("<circle") >= 2 * 18
    assert "mean absolute error" in text and "Largest errors" in text and "<mark" in text
    assert "TF-IDF + ridge regression" in text and "the mean of the training rows" in text


def test_the_card_says_what_is_predicted(finished):
    card = (finished[0] / "saved_models/mine/README.md").read_text("utf-8")
    assert "It predicts `price`. In the training rows its mean is 1,0" in card
    assert "- type: mae" in card and "- type: r_squared" in card
    assert "model.predict([(" in card and "predicts a number for a text" in card


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(one) for one in arguments])
    output = capsys.readouterr()
    assert not caught.value.code, output.err
    return output.out


def test_evaluate_reads_the_same_table(finished, capsys, model):
    given = ("--text", "offer,state", "--target", "price", "--decimal", ",", "--save", "errors.csv")
    out = command(capsys, "evaluate", "saved_models/mine", "my.csv", *given, "--engine", "litert")
    read = read_scored_texts("my.csv", "offer,state", "price", ",")
    expected = metrics.mean_absolute_error(read.numbers, model.predict(read.inputs))
    assert f"mean absolute error  {expected:.1f}" in out and "72 rows of my.csv" in out
    errors = pandas.read_csv("errors.csv")
    assert len(errors) == 72 and errors["error"].abs().is_monotonic_decreasing
    assert np.isclose(errors["error"].abs().mean(), expected, rtol=1e-4)


def test_predict_keeps_the_columns_and_adds_one(finished, capsys, model):
    command(capsys, "predict", "saved_models/mine", "my.csv", "--save", "out.csv", "--overwrite")
    out = pandas.read_csv("out.csv")
    assert list(out.columns) == ["offer", "state", "price", "prediction"]
    expected = model.predict(inputs())
    np.testing.assert_allclose(out["prediction"], expected, rtol=1e-6)
    frame = pandas.DataFrame({"offer": ["A cup here", None], "state": ["new", None]})
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        table = model.predict_table(frame)
    assert np.isclose(table["prediction"][0], model.predict([("A cup here", "new")])[0], rtol=1e-6)
    assert np.isnan(table["prediction"][1])


def test_export_checks_more_rows(finished, capsys):
    given = ("--to", "litert", "--quantize", "int4", "--check", "my.csv")
    out = command(capsys, "export", "saved_models/mine", *given)
    assert "TFLite int4" in out and "numbers differ from those of Keras by at most" in out
    assert (finished[0] / "saved_models/mine/model.int4.tflite").is_file()


def test_run_pyz_answers_without_training_packages(finished, model):
    given = ["saved_models/mine/run.pyz", "The chair there", "new", "A cup here", "broken"]
    done = python(RUN_PYZ, *given, cwd=finished[0], blocked=(*TRAINING, "sklearn"))
    expected = model.predict([("The chair there", "new"), ("A cup here", "broken")])
    np.testing.assert_allclose(list(map(float, done.split())), expected, rtol=1e-6)


def test_a_server_answers_with_numbers(finished, model):
    rows = [["The chair there", "new"], ["A cup here", "broken"]]
    with running([finished[0] / "saved_models/mine"]) as server:
        answer = server.post("/predict", input=rows).json()
        assert server.post("/predict", input="one text").status_code == 400
        assert server.post("/classify", input=rows).status_code == 404
    found = [one["prediction"] for one in answer["data"]]
    np.testing.assert_allclose(found, model.predict(list(map(tuple, rows))), rtol=1e-6)


def test_a_later_table_replaces_rows(finished, tmp_path):
    first = [("A cup", "new", 5.0), ("A lamp", "new", 7.0)]
    write(tmp_path / "a.csv", first)
    write(tmp_path / "b.csv", [("A  cup", "new", 6.0), ("A chair", "old", 9.0)])
    (both,) = tfx.data.table_files(f"{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}")
    read = read_scored_texts(both, "offer,state", "price", ",")
    assert read.texts == [("A lamp", "new"), ("A  cup", "new"), ("A chair", "old")]
    assert read.numbers == [7.0, 6.0, 9.0]


def test_it_goes_on_as_a_base(finished, bare, fitted):
    run = recipe_main("text_regression")
    model, _ = fitted(run, **SETTINGS | {"base": "saved_models/mine", "name": "again"})
    old, _ = tfx.load("saved_models/mine", task="regression")
    ours, theirs = ({w.path: w for w in one.weights} for one in (model, old))
    for path in ("embedding/embeddings", "encoder/block_0/feed_forward/expand/kernel"):
        np.testing.assert_array_equal(ours[path], theirs[path])


@pytest.mark.slow  # test_text_classification_recipe.py has adapters on 4 bits
def test_the_frozen_weights_may_take_4_bits(finished, bare, fitted):
    wanted = {"method": "dora", "base_dtype": "nf4", "name": "four_bits"}
    model, _ = fitted(recipe_main("text_regression"), **SETTINGS | wanted)
    assert settings_of(model)["base_dtype"] == "nf4"


def test_one_with_a_pooler_has_the_architecture_of_a_bert(finished, bare, fitted):
    wanted = {"style": "bert", "pooling": "first", "pooler": True, "name": "bert"}
    model, _ = fitted(recipe_main("text_regression"), **SETTINGS | wanted)
    family, config = family_for(model.config, "regression")
    assert "bert" in family.model_types[0] and config["hidden_size"] == model.config.hidden_dim


def test_the_fold_is_mean_and_deviation():
    tokenizer = tfx.Tokenizer.train(["a cat"], 270)
    config = tfx.TransformerConfig.of_size(
        "nano", tokenizer.vocabulary_size, "bert", num_layers=1, max_sequence_length=11
    )
    config = tfx.config_for_fine_tuning(config, pooling="first", pooler=True)
    trained = tfx.Regressor(config, dtype="bfloat16")  # which could not hold 1234.5
    texts = ["a cat", "cat cat cat", "a"]
    plain = in_units(trained, 0.0, 1.0)
    made = in_units(trained, 1234.5, 0.25)
    expected = 1234.5 + 0.25 * tfx.predictor(plain, tokenizer).predict(texts).astype("float64")
    found = tfx.predictor(made, tokenizer).predict(texts)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_it_is_written_for_transformers_and_read_again(finished, tmp_path):
    tokenizer = tfx.Tokenizer.train(["a cat"], 270)
    config = tfx.TransformerConfig.of_size(
        "nano", tokenizer.vocabulary_size, "bert", num_layers=1, max_sequence_length=11
    )
    config = tfx.config_for_fine_tuning(config, pooling="first", pooler=True)
    model = in_units(tfx.Regressor(config), 50.0, 7.0)
    tfx.save(tmp_path / "scorer", model, tokenizer)
    export.transformers(tmp_path / "scorer")
    folder = tmp_path / "scorer/transformers"
    written = json.loads((folder / "config.json").read_text("utf-8"))
    assert written["problem_type"] == "regression" and len(written["id2label"]) == 1
    assert written["architectures"] == ["RobertaForSequenceClassification"]
    read, _ = tfx.from_pretrained(folder)
    assert isinstance(read, tfx.Regressor)
    texts = ["a cat", "cat"]
    np.testing.assert_allclose(
        tfx.predictor(read, tokenizer).predict(texts),
        tfx.predictor(model, tokenizer).predict(texts),
    )
    del written["problem_type"]  # without it, one output is the score of a pair
    (folder / "config.json").write_text(json.dumps(written), "utf-8")
    assert isinstance(tfx.from_pretrained(folder)[0], tfx.Classifier)
    assert isinstance(tfx.from_pretrained(folder, task="regression")[0], tfx.Regressor)
    written["id2label"] = {"0": "a", "1": "b"}
    (folder / "config.json").write_text(json.dumps(written), "utf-8")
    with pytest.raises(tfx.InputError, match="no single output.\n.*text_regression.py --base"):
        tfx.from_pretrained(folder, task="regression")
