"""The recipe `text_classification` from a CSV to a bundle that classifies, and what it leaves."""

import csv
import json
import os
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest
import safetensors.numpy
from leaks import leaks
from pages import Page, report_of
from processes import RUN_PYZ, TRAINING, python
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
from tiny_models import tiny_causal, tiny_encoder

from tfx_transformer import bundle, cli, runtime
from tfx_transformer.data import read_labelled_texts, split_labelled_texts
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import MaskedLM
from tfx_transformer.models.lora import settings_of
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import load, parameters, save
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import MASK_TOKEN, Tokenizer
from tfx_transformer.training import Run, classification
from tfx_transformer.training.past import Past

# Each kind has its own words, so the label of a new sentence can be told by any of two.
KINDS = {
    "animal": (["cat", "dog", "bird", "horse", "猫"], ["sleeps", "runs"]),
    "food": (["rice", "bread", "soup", "cake", "パン"], ["boils", "burns"]),
    "NA": (["rain", "wind", "snow", "sun", "雪"], ["falls", "stops"]),
}
SENTENCES = [
    (f"{start} {thing} {does} {end}.", kind)
    for start in ("The", "This", "Today the")
    for end in ("now", "again", "at last")
    for kind, (things, verbs) in KINDS.items()
    for thing in things
    for does in verbs
]
NAMES = ["NA", "animal", "food"]
SETTINGS = {
    "csv": "my.csv",
    "validation": "held.csv",
    "text": "said",
    "label": "kind",
    "skip_bad_rows": True,
    "name": "mine",
    "size": "nano",
    "vocabulary_size": 300,
    "max_length": 19,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "average": 0.5,
}
ALONE = {"linear_buckets": 0}
ONE_EPOCH = SETTINGS | ALONE | {"epochs": 1, "average": 0.0}


def write(path, *rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def read_json(path):
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def recipe():
    return cli.recipe_main("text_classification")


@pytest.fixture(scope="module")
def held_out():
    """Texts and labels that are held out: three of them are wrong, and must be found out."""
    rows = SENTENCES[::5]
    wrong = [(text, NAMES[NAMES.index(kind) - 1]) for text, kind in SENTENCES[1:120:40]]
    return rows + wrong


@pytest.fixture(scope="module")
def finished(recipe, held_out, tmp_path_factory):
    """The folder in which the recipe has run, and what it returned."""
    folder = tmp_path_factory.mktemp("work")
    hidden = {text for text, _ in held_out}
    rows = [row for row in SENTENCES if row[0] not in hidden]
    write(folder / "my.csv", ("said", "kind"), *rows, ("", "food"))
    write(folder / "held.csv", ("said", "kind"), *held_out)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, recipe(**SETTINGS)


@pytest.fixture(scope="module")
def path(finished):
    return finished[0] / "saved_models" / "mine"


@pytest.fixture(scope="module")
def probabilities(path, held_out):
    """What LiteRT says of the held-out texts."""
    return runtime.load(path).probabilities([text for text, _ in held_out])


@pytest.fixture
def quick(finished, bare, monkeypatch):
    """In that folder, without exports and pictures."""
    monkeypatch.chdir(finished[0])


# What a run leaves behind


def test_the_folders_hold_what_they_should(finished, path):
    folder, _ = finished
    assert sorted(os.listdir(folder)) == ["held.csv", "my.csv", "runs", "saved_models"]
    assert sorted(os.listdir(folder / "runs" / "mine")) == [
        "attention.png",
        "bad_rows.csv",
        "calibration.png",
        "classes.csv",
        "confusion.png",
        "cost.json",
        "data.json",
        "evaluation.json",
        "explanations.json",
        "exports.json",
        "files.json",
        "lengths.png",
        "loss.png",
        "metrics.csv",
        "mistakes.csv",
        "report.html",
        "result.json",
        "run.json",
        "settings.json",
        "tensorboard",
    ]
    assert sorted(os.listdir(path)) == [
        "README.md",
        "SHA256SUMS",
        "config.json",
        "model.int8.tflite",
        "model.safetensors",
        "model.tflite",
        "run.pyz",
        "saved_model",
        "split.json",
        "tokenizer.json",
    ]
    for picture in (folder / "runs" / "mine").glob("*.png"):
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 5_000, picture.name
    settings = read_json(folder / "runs" / "mine" / "settings.json")
    assert SETTINGS.items() <= settings.items()


def test_the_report(finished, path, probabilities, held_out):
    folder, result = finished
    found = {name: result["scores"][name] for name in ("accuracy", "macro_f1")}
    scores = {"accuracy": f"{100 * found['accuracy']:.1f} %"}
    scores["macro-F1"] = f"{100 * found['macro_f1']:.1f} %"
    page = report_of(folder / "runs" / "mine", path, scores)
    truth = [label for _, label in held_out]
    predicted = [NAMES[i] for i in probabilities.argmax(axis=1)]
    expected = confusion_matrix(truth, predicted, labels=NAMES)
    matrix = page.rows("Confusion matrix")
    assert [[int(cell or 0) for cell in matrix[name]] for name in NAMES] == expected.tolist()
    table = folder / "runs" / "mine" / "mistakes.csv"
    mistakes = pandas.read_csv(table, keep_default_na=False).to_dict("records")
    assert len(mistakes) >= 3
    for row in mistakes[:12]:
        assert row["input"] in page.text() and row["predicted"] in page.text()
    # The word that decided is a word of the kind that was predicted.
    explained = read_json(folder / "runs" / "mine" / "explanations.json")
    decided = [max(row["pieces"], key=lambda piece: piece["weight"])["text"] for row in explained]
    known = [[word for words in KINDS[row["predicted"]] for word in words] for row in explained]
    right = sum(word in words for word, words in zip(decided, known, strict=True))
    assert right >= len(explained) / 2


def test_data_is_what_was_read(finished, held_out):
    folder, result = finished
    training, validation = read_json(folder / "runs" / "mine" / "data.json")
    count = len(SENTENCES) - len(held_out)
    assert (training["rows"], validation["rows"]) == (count, len(held_out))
    assert training["columns"] == {"text": "said", "label": "kind"}
    assert (training["bad_rows"], validation["overlap"]) == (1, 0)
    assert sum(training["labels"].values()) == count and list(training["labels"]) == NAMES
    bad = pandas.read_csv(folder / "runs" / "mine" / "bad_rows.csv")
    assert bad["row"].tolist() == [count + 2]
    assert result["data"] == {"file": "my.csv"}
    cost = read_json(folder / "runs" / "mine" / "cost.json")
    config = bundle.read_config(folder / "saved_models/mine")
    # The linear classifier has a rarity and three weights of every n-gram.
    linear = 4 * config["architecture"]["linear_buckets"]
    assert cost["trained"] == config["parameters"] - linear < config["parameters"]


def test_the_bundle_knows_its_labels(path):
    config = bundle.read_config(path)
    assert (config["task"], config["labels"], config["text_columns"]) == (
        "classification",
        NAMES,
        1,
    )
    architecture = {"num_classes": 3, "multi_label": False, "pooling": "mean", "dropout": 0.2}
    assert architecture.items() <= config["architecture"].items()
    assert "example" not in config


def test_it_has_learned_what_can_be_told(probabilities, held_out):
    # All but the last three, whose labels are wrong.
    right = [
        NAMES[i] == kind for i, (_, kind) in zip(probabilities.argmax(1), held_out, strict=True)
    ]
    assert np.mean(right[:-3]) > 0.9
    assert not any(right[-3:]), "nothing can tell these labels"


def test_the_scores_are_those_of_the_bundle(finished, path, probabilities, held_out):
    _, result = finished
    truth = [NAMES.index(kind) for _, kind in held_out]
    predicted = probabilities.argmax(axis=1)
    scores = result["scores"]
    assert scores["count"] == len(held_out)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores["log_loss"] == pytest.approx(log_loss(truth, probabilities), rel=1e-3)
    assert bundle.read_config(path)["scores"] == json.loads(json.dumps(scores))
    accuracy = f"- accuracy: {100 * scores['accuracy']:.1f} %\n"
    assert accuracy in (path / "README.md").read_text("utf-8")


def test_the_probabilities_are_calibrated(finished, path, probabilities, held_out):
    _, result = finished
    found = result["calibration"]
    assert bundle.read_config(path)["calibration"] == found
    assert found["count"] == len(held_out)
    # The exported file gives the probabilities after it.
    truth = [NAMES.index(kind) for _, kind in held_out]
    assert found["after"]["log_loss"] == pytest.approx(log_loss(truth, probabilities), abs=1e-3)
    before = softmax(np.log(probabilities) * found["temperature"], axis=1)
    assert found["before"]["log_loss"] == pytest.approx(log_loss(truth, before), abs=1e-3)
    worse = found["after"]["log_loss"] >= found["before"]["log_loss"]
    assert worse == (found["temperature"] == 1)


def test_the_report_shows_the_calibration(finished):
    folder, result = finished
    page = Page(folder / "runs" / "mine" / "report.html")
    found = result["calibration"]
    if found["temperature"] == 1:
        assert "Calibration: the probabilities stay as they are." in page.text()
        assert not any(name.startswith("Calibration: ") for name in page.tables)
    else:
        rows, sides = page.rows("Calibration: "), [found[side] for side in ("before", "after")]
        errors = [f"{100 * side['calibration_error']:.1f} %" for side in sides]
        assert rows["calibration error"] == errors
        assert rows["log loss"] == [f"{side['log_loss']:.3f}" for side in sides]
    assert list(page.rows("Thresholds of ")) == NAMES
    assert result["thresholds"]["count"] == found["count"]


def test_the_scores_of_each_class(finished, probabilities, held_out):
    classes = pandas.read_csv(finished[0] / "runs/mine/classes.csv", keep_default_na=False)
    truth = [NAMES.index(kind) for _, kind in held_out]
    assert classes["label"].tolist() == NAMES
    assert classes["count"].tolist() == np.bincount(truth).tolist()
    f1 = f1_score(truth, probabilities.argmax(axis=1), average=None)
    assert classes["f1"].tolist() == pytest.approx(f1.tolist())


def test_the_surest_mistakes_come_first(finished, probabilities, held_out):
    table = pandas.read_csv(finished[0] / "runs/mine/mistakes.csv", keep_default_na=False)
    expected = [
        (text, kind, NAMES[row.argmax()], row.max())
        for (text, kind), row in zip(held_out, probabilities, strict=True)
        if NAMES[row.argmax()] != kind
    ]
    expected.sort(key=lambda row: -row[-1])
    assert len(expected) >= 3
    assert table["input"].tolist() == [row[0] for row in expected]
    assert table["label"].tolist() == [row[1] for row in expected]
    assert table["predicted"].tolist() == [row[2] for row in expected]
    assert table["probability"].tolist() == pytest.approx([row[3] for row in expected], abs=1e-4)


def test_metrics_and_the_best_epoch(finished):
    folder, result = finished
    metrics = pandas.read_csv(folder / "runs" / "mine" / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2, 3]
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[0], "it has learned nothing"
    right = (metrics["val_macro_f1"] * result["scores"]["count"]).round()
    best = int(np.lexsort((-metrics["val_loss"], right))[-1])
    training = result["training"]
    assert (training["epochs"], training["best_epoch"]) == (3, best + 1)
    assert 0 <= training["waiting"] < 1
    assert training["val_loss"] == pytest.approx(metrics["val_loss"][best], abs=1e-4)
    # A linear classifier joins the Transformer after the training.
    assert result["scores"]["accuracy"] >= metrics["val_accuracy"][best] - 1e-6


def test_what_simpler_classifiers_reach(finished, held_out, capsys):
    folder, result = finished
    written = read_json(folder / "runs" / "mine" / "result.json")
    assert (result["training"] | result["scores"]).items() <= written.items()
    always, linear = written["baselines"].values()
    hidden = {text for text, _ in held_out}
    counts = pandas.Series([kind for text, kind in SENTENCES if text not in hidden]).value_counts()
    label = min(counts[counts == counts.max()].index)
    assert always["label"] == label
    assert always["accuracy"] == pytest.approx(np.mean([kind == label for _, kind in held_out]))
    # Words tell the kinds apart: but for the wrong labels the linear model is right too.
    assert linear["accuracy"] == pytest.approx(1 - 3 / len(held_out), abs=0.05)


def test_every_export_was_verified(finished, held_out):
    verified = finished[1]["verified"]
    assert verified.keys() == {"SavedModel", "TFLite float32", "TFLite int8"}
    for name in ("SavedModel", "TFLite float32"):
        assert verified[name]["identical"] == verified[name]["of"] == len(held_out)
        assert verified[name]["largest_probability_difference"] < 1e-4


def test_run_pyz_classifies_without_training_packages(path, tmp_path):
    texts = ["Today the cat sleeps now.", "雪 falls", ""]
    output = python(
        RUN_PYZ, path / "run.pyz", *texts, "--json", cwd=tmp_path, blocked=(*TRAINING, "sklearn")
    )
    answers = [row["answer"] for row in json.loads(output)["answers"]]
    expected = runtime.load(path).classify(texts)
    assert [answer["label"] for answer in answers] == [found.label for found in expected]
    assert [answer["probability"] for answer in answers] == [c.probability for c in expected]


# Training


@pytest.mark.slow(but=["lora-0.9"])
@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_best_epoch_is_kept(recipe, finished, quick, held_out, monkeypatch, method, average):
    # The second of four epochs is said to be the best; patience ends the training after it.
    judged = []

    def score(probabilities, *rest):
        judged.append(probabilities)
        f1 = [0.3, 0.8, 0.7, 0.7, 0.9][min(len(judged), 5) - 1]
        return original(probabilities, *rest) | {"macro_f1": f1}

    original = classification.score_labels
    monkeypatch.setattr(classification, "score_labels", score)
    adapted, merge = [], Run.without_adapters
    monkeypatch.setattr(
        Run, "without_adapters", lambda run, model: adapted.append(model) or merge(run, model)
    )
    settings = {"average": average, "epochs": 9, "patience": 2, "method": method}
    if method == "lora":
        settings |= {"rank": 3, "base_dtype": "nf4"}
    result = recipe(**SETTINGS | ALONE | settings | {"name": method, "overwrite": True})
    assert (result["training"]["epochs"], result["training"]["best_epoch"]) == (4, 2)
    assert len(judged) == 5, "after every epoch, and at the end"
    model, tokenizer = load(f"saved_models/{method}")
    kept = predictor(model, tokenizer, NAMES).probabilities([text for text, _ in held_out])
    calibrated = softmax(np.log(judged[1]) / result["calibration"]["temperature"], axis=1)
    np.testing.assert_allclose(kept, calibrated, atol=1e-5)
    np.testing.assert_allclose(judged[4], calibrated, atol=1e-5)
    for other in (judged[0], judged[2], judged[3]):
        assert np.abs(other - judged[1]).max() > 1e-3, "the weights have changed"
    truth = [NAMES.index(label) for _, label in held_out]
    assert result["scores"]["log_loss"] == pytest.approx(log_loss(truth, kept), rel=1e-4)
    if method == "lora":
        check_adapters(finished[0] / "runs" / "lora", model)
        assert settings_of(adapted[0])["base_dtype"] == "nf4"


def check_adapters(run, model):
    """The adapters are in the run's folder; the model is a plain one, which answers as they do."""
    tensors = safetensors.numpy.load_file(run / "adapters.safetensors")
    pairs = [name for name in tensors if name.endswith("lora_kernel_a")]
    assert {tensors[name].shape[1] for name in pairs} == {3}
    assert {name for name in tensors if "/lora_" not in name} == {"logits/kernel", "logits/bias"}
    assert not [name for name in parameters(model) if "lora" in name]
    cost = read_json(run / "cost.json")
    assert cost["trained"] == sum(tensor.size for tensor in tensors.values())


def test_a_share_is_held_out(recipe, finished, quick, fitted):
    folder, _ = finished
    fitted(recipe, **ONE_EPOCH | {"validation": "", "share": 0.2, "name": "share"})
    examples = read_labelled_texts("my.csv", "said", "kind", skip_bad_rows=True)
    expected = [len(part) for part in split_labelled_texts(examples, 0.2, 1)]
    training, validation = read_json(folder / "runs" / "share" / "data.json")
    assert [training["rows"], validation["rows"]] == expected
    assert validation["overlap"] == 0 and min(validation["labels"].values()) > 0


def test_classes_can_weigh_the_same(recipe, finished, quick, fitted):
    rows = [(f"a cat {n}", "cat") for n in range(9)] + [(f"a dog {n}", "dog") for n in range(3)]
    write("uneven.csv", ("said", "kind"), *rows)
    uneven = {"csv": "uneven.csv", "validation": "uneven.csv"}
    _, given = fitted(recipe, **ONE_EPOCH | uneven | {"name": "even", "class_weights": "balanced"})
    pairs = [
        (int(label), float(weight))
        for _, labels, weights in given["x"].as_numpy_iterator()
        for label, weight in zip(labels, weights, strict=True)
    ]
    assert sorted(pairs) == [(0, pytest.approx(12 / 18))] * 9 + [(1, 2.0)] * 3
    for _, _, weights in given["validation_data"].as_numpy_iterator():
        assert (weights == 1).all(), "validation counts every example once"


def test_several_labels_a_row(recipe, finished, quick):
    folder, _ = finished
    wet = [(text, f"{kind}|wet" if "again" in text else kind) for text, kind in SENTENCES]
    write("several.csv", ("said", "kind"), *wet, ("Nothing of all that.", ""))
    files = {"csv": "several.csv", "validation": "several.csv", "separator": "|"}
    result = recipe(**ONE_EPOCH | files | {"name": "several"})
    config, names = bundle.read_config("saved_models/several"), [*NAMES, "wet"]
    assert (config["labels"], config["architecture"]["multi_label"]) == (names, True)
    held = read_labelled_texts("several.csv", "said", "kind", "|")
    truth = held.targets(names, multi_label=True)
    answers = predictor(*load("saved_models/several"), names).probabilities(held.texts)
    predicted = answers >= 0.5
    for average in ("macro", "micro"):
        expected = f1_score(truth, predicted, average=average, zero_division=0)
        assert result["scores"][f"{average}_f1"] == pytest.approx(expected)
    assert result["scores"]["exact_match"] == pytest.approx(accuracy_score(truth, predicted))
    left = set(os.listdir(folder / "runs" / "several"))
    assert "classes.csv" in left and not left & {"confusion.png", "calibration.png", "mistakes.csv"}
    shown = {"exact match": "exact_match", "micro-F1": "micro_f1", "macro-F1": "macro_f1"}
    scores = {say: f"{100 * result['scores'][name]:.1f} %" for say, name in shown.items()}
    report_of(folder / "runs" / "several", folder / "saved_models" / "several", scores)


def test_two_columns_of_text_and_a_label_with_one_example(recipe, finished, quick, monkeypatch):
    """The label is trained on but not measured. The clock ends the run after its first epoch."""
    folder, done = finished[0], []

    def everything(path, texts, generator, int4):
        done.extend(texts)
        return {}

    monkeypatch.setattr("tfx_transformer.export.everything", everything)
    # Only both columns together tell the label.
    rows = [(a, b, "same" if a == b else "other") for a in "xyz" * 5 for b in "xyz"]
    write("two.csv", ("one", "two", "kind"), *rows, ("x", "", "other"), ("w", "w", "single"))
    files = {"csv": "two.csv", "validation": "", "share": 0.4, "text": "one,two"}
    result = recipe(**ONE_EPOCH | files | {"name": "two", "epochs": 50, "minutes": 1e-6})
    assert result["training"]["epochs"] == 1
    training, validation = read_json(folder / "runs" / "two" / "data.json")
    assert len(done) == validation["rows"] and all(len(row) == 2 for row in done)
    config = bundle.read_config("saved_models/two")
    assert (config["text_columns"], config["labels"]) == (2, ["other", "same", "single"])
    assert config["columns"] == ["one", "two"]
    mistakes = pandas.read_csv("runs/two/mistakes.csv", keep_default_na=False)
    assert len(mistakes) and all(" | " in text for text in mistakes["input"])
    assert (training["single"], training["labels"]["single"]) == (["single"], 1)
    assert validation["labels"]["single"] == 0
    classes = pandas.read_csv("runs/two/classes.csv", index_col="label", keep_default_na=False)
    assert classes.loc["single", "count"] == 0


# Other models to begin with


@pytest.fixture(scope="module")
def masked(finished):
    """The path of a bundle that guesses masked tokens."""
    words = Tokenizer.train([text for text, _ in SENTENCES], 310, [MASK_TOKEN])
    size = {"vocabulary_size": words.vocabulary_size, "max_sequence_length": 23}
    path = finished[0] / "saved_models" / "base"
    save(path, tiny_encoder(MaskedLM, ngram_buckets=97, **size), words)
    return path


def test_a_training_begins_with_a_masked_base(recipe, quick, masked, held_out, fitted):
    sums = (masked / bundle.SUMS).read_bytes()
    sizes = {"base": "saved_models/base", "name": "begun", "size": "tiny", "max_length": 99}
    model, given = fitted(recipe, **ONE_EPOCH | sizes)
    base, words = load(masked)
    assert (base.task, model.task) == ("masked", "classification")
    assert model.config.max_sequence_length == 23
    before, after = parameters(base), parameters(model)
    shared = [path for path in after if path.startswith(("embedding/", "ngrams/", "encoder/"))]
    assert after.keys() - set(shared) == {"logits/kernel", "logits/bias"}
    for path in shared:
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    rows = {tuple(frame(words, text, 23)) for text, _ in held_out}
    ids = next(given["validation_data"].as_numpy_iterator())[0]["token_ids"]
    assert {tuple(row[row != words.padding_id]) for row in ids} <= rows, "the base's tokens"
    assert model.consistency == 4, "as fine-tuning has it by default"
    assert (masked / bundle.SUMS).read_bytes() == sums, "the base is read only"


@pytest.mark.slow  # the one above has its weights and sizes before the training
def test_a_masked_base_is_fine_tuned(recipe, quick, masked):
    # At a rate of almost nothing the encoder stays what it was; sizes are those of the base.
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "base": "saved_models/base"}
    sums = (masked / bundle.SUMS).read_bytes()
    recipe(**ONE_EPOCH | still | {"name": "tuned", "size": "tiny", "max_length": 99})
    (base, words), (model, tokenizer) = load(masked), load("saved_models/tuned")
    assert (base.task, model.task) == ("masked", "classification")
    assert tokenizer.ranks == words.ranks and "<mask>" in tokenizer.special_tokens
    assert model.config.max_sequence_length == 23
    before, after = parameters(base), parameters(model)
    shared = [path for path in after if path.startswith(("embedding/", "ngrams/", "encoder/"))]
    assert np.abs(after["ngrams/embeddings"]).max() > 0, "it began as zeros"
    assert after.keys() - set(shared) == {"logits/kernel", "logits/bias"}
    for path in shared:
        np.testing.assert_allclose(after[path], before[path], atol=1e-6, err_msg=path)
    assert (masked / bundle.SUMS).read_bytes() == sums, "the base is read only"


# The loop after the first model


@pytest.fixture
def corrected(finished, path, quick, capsys):
    """A table that `predict` wrote and a person filled in: book.xlsx; the rows that were open."""
    unseen = ["He drinks coffee.", "Tea is hot.", "We poured juice.", "Cold beer.", "A milk shake."]
    mails = [text.replace(".", " today.") for text, _ in SENTENCES[:30]]
    write("in.csv", ("said",), *[(text,) for text in [*mails, *unseen, SENTENCES[1][0]]])
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(path), "in.csv", "--column", "said", "--save", "out.xlsx",
                  "--unsure", "0.9", "--overwrite"])  # fmt: skip
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(path), "in.csv", "--column", "said", "--save", "auto.csv",
                  "--unsure", "auto", "--overwrite"])  # fmt: skip
    assert ended.value.code == 0
    thresholds = bundle.read_config(path)["thresholds"]["labels"]
    auto = pandas.read_csv("auto.csv", keep_default_na=False)
    answers = runtime.load(path).classify(auto["said"].tolist())
    assert auto["predicted"].tolist() == [
        one.label if one.probability >= thresholds[one.label] else "" for one in answers
    ]
    table = pandas.read_excel("out.xlsx", dtype=str, keep_default_na=False)
    is_open = table["predicted"] == ""
    table.loc[is_open & table["said"].isin(unseen), "predicted"] = "drink"
    table.to_excel("book.xlsx", index=False)
    capsys.readouterr()
    return table, int((table["predicted"] == "").sum())


LOOP = SETTINGS | {"csv": "my.csv,book.xlsx", "base": "saved_models/mine", "epochs": 1}


def test_the_loop_after_the_first_model(recipe, path, corrected, held_out, capsys):
    table, still_open = corrected
    before = (path / bundle.SUMS).read_bytes()
    drinks = int((table["predicted"] == "drink").sum())
    assert drinks >= 3, "an unknown kind is doubtful"
    # At a rate of almost nothing the new model is the old one, with a label more.
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "pooling": "last", "share": 0.4}
    result = recipe(**LOOP | still | {"name": "second"})
    output = capsys.readouterr().out
    config = bundle.read_config("saved_models/second")
    assert config["labels"] == [*NAMES[:2], "drink", "food"]
    assert config["architecture"]["pooling"] == "mean", "that of the base"
    (base, words), (model, tokenizer) = load(path), load("saved_models/second")
    assert tokenizer.ranks == words.ranks
    before_it, after_it = parameters(base), parameters(model)
    for name in before_it:
        if name.startswith(("embedding/", "ngrams/", "encoder/")):
            np.testing.assert_allclose(after_it[name], before_it[name], atol=1e-6, err_msg=name)
    # Both have a linear classifier beside them, of the labels of their time.
    kernels = [np.asarray(m.linear.kernel.embeddings.value) for m in (base, model)]
    assert [kernel.shape[1] for kernel in kernels] == [3, 4]
    assert np.abs(kernels[1][:, 2]).max() > 0, "it has learned the new label"
    # The held-out rows are those of the first run; they do not become those of training.
    training, validation = read_json(path.parents[1] / "runs" / "second" / "data.json")
    assert validation["rows"] == len(held_out) and validation["overlap"] == 0
    assert f"new label 'drink': {drinks} rows" in output
    if still_open:
        assert f"{still_open} row" in output and "still open: left out" in output
    found = result["conclusion"]["comparison"]
    truth = [label for _, label in held_out]
    answers = runtime.load(path).classify([text for text, _ in held_out])
    right = np.mean([answer.label == label for answer, label in zip(answers, truth, strict=True)])
    assert found["count"] == len(held_out) and found["old"] == pytest.approx(right)
    assert found["verdict"] == "no different" and abs(found["new"] - found["old"]) < 0.1
    assert f"second against mine on the same {len(held_out)} held-out rows" in " ".join(
        output.split()
    )
    assert (path / bundle.SUMS).read_bytes() == before
    page = Page(Path("runs/second/report.html"))
    sentences = result["conclusion"]["sentences"]["en"]
    assert all(sentence in page.text() for sentence in sentences[:2])
    beside = page.rows("This model and its base")
    assert list(beside) == ["before: mine", "now: second", "difference"]
    assert beside["before: mine"][0] == f"{100 * found['old']:.1f} %"
    assert sentences[0] in Path("saved_models/second/README.md").read_text("utf-8")


def test_a_worse_model_does_not_replace_its_base(recipe, path, corrected, held_out, monkeypatch):
    known = dict(held_out)

    class Oracle:
        labels = Labels(NAMES)

        def probabilities(self, inputs):
            return np.eye(3)[[NAMES.index(known[text]) for (text,) in inputs]]

        def classify(self, inputs):  # what `predict` wrote
            return runtime.load(path).classify([text for (text,) in inputs])

    monkeypatch.setattr(Past, "open", lambda self: Oracle())
    before = (path / bundle.SUMS).read_bytes()
    result = recipe(**LOOP | {"name": "mine", "overwrite": True})
    found = result["conclusion"]["comparison"]
    assert found["old"] == 1 > found["new"] and found["kept"] == "old"
    assert (found["old_name"], found["new_name"]) == ("mine", "mine-2")
    assert (path / bundle.SUMS).read_bytes() == before, "the base stays as it is"
    assert bundle.read_config("saved_models/mine-2")["labels"] == [*NAMES[:2], "drink", "food"]


# What cannot be trained


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Bundles that cannot be fine-tuned to classify texts."""
    folder = tmp_path_factory.mktemp("bases")
    tokenizer = Tokenizer.train([], 259)
    save(folder / "causal", tiny_causal(vocabulary_size=259), tokenizer)
    return folder


ROWS = [("said", "kind"), *SENTENCES[:40]]
FILES = {
    "my.csv": ROWS,
    "one.csv": [("said", "kind"), ("a", "x"), ("b", "x")],
    "unknown.csv": [("said", "kind"), ("a cat", "animal"), ("a dog", "animals")],
    "empty.csv": [("said", "kind"), ("a cat", "animal"), (" ", "food"), ("rice", "food")],
    "lone.csv": [("said", "kind"), ("a", "x"), ("b", "y")],
    "two.csv": [("said", "more", "kind"), ("a", "b", "x"), ("", "", "y"), ("c", "d", "y")],
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv=one.csv"], "one.csv: 'x' is the only label."),
        (["--csv=one.csv", "--validation=my.csv"], "one.csv: 'x' is the only label."),
        (["--csv=lone.csv"], "no label has two different examples."),
        (["--validation=unknown.csv"], "unknown.csv, row 3: the label 'animals' is unknown."),
        (["--csv=empty.csv"], "empty.csv, row 3: column 'said' is empty"),
        (["--csv=two.csv", "--text=said,more"], "row 3: columns 'said' and 'more' are empty."),
        (["--csv=nowhere.csv"], "nowhere.csv: "),
        (["--label=kinds"], "'kinds'"),
        (["--class-weights=even"], "argument --class-weights: invalid choice: 'even'"),
        (["--class-weights=balanced", "--separator=|"], "several labels a row do not go together"),
        (["--method=adapter"], "argument --method: invalid choice: 'adapter'"),
        (["--method=lora", "--rank=0"], "rank is 0."),
        (["--max-length=2"], "max_length is 2.\n  Expected 3 or more"),
        (["--pooling=max"], "argument --pooling: invalid choice: 'max'"),
        (["--average=1"], "average is 1.0"),
        (["--layer-decay=0"], "layer_decay is 0.0"),
        (["--patience=0"], "patience is 0 and minutes is 0.0."),
        (["--share=1.5"], "the share to hold out is 1.5."),
        (["--precision=float12"], "argument --precision: invalid choice: 'float12'"),
        (["--base={}/causal"], "the base, a causal model, has no weight encoder/"),
        (["--base=nowhere"], "nowhere is not a bundle"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_refused(
    command, bases, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trains"))
    for name, rows in FILES.items():
        write(tmp_path / name, *rows)
    small = ("--csv=my.csv", "--text=said", "--label=kind", "--size=nano", "--vocabulary-size=262")
    given = [argument.replace("{}", str(bases)) for argument in arguments]
    status, _, errors = command("run", "text_classification", *small, *given)
    assert status == 2, errors
    assert message in errors and "fault of the program" not in errors
    assert not (tmp_path / "saved_models").exists()


def test_a_run_of_no_epoch_says_so(recipe, quick):
    with pytest.raises(InputError, match="Train for one epoch or more, with a lower learning rate"):
        recipe(**ONE_EPOCH | {"epochs": 0, "name": "none"})
    assert not os.path.exists("saved_models/none")


def test_a_finished_run_is_not_overwritten_by_accident(recipe, path, quick):
    before = (path / bundle.SUMS).read_text()
    with pytest.raises(InputError, match="saved_models/mine exists already"):
        recipe(**SETTINGS)
    assert (path / bundle.SUMS).read_text() == before


@pytest.mark.slow  # the other recipes show it of fewer files
def test_the_bundle_holds_no_row_and_no_path(finished):
    with (finished[0] / "my.csv").open(encoding="utf-8") as file:
        rows = [cell for row in csv.reader(file) for cell in row]
    with (finished[0] / "held.csv").open(encoding="utf-8") as file:
        rows += [cell for row in csv.reader(file) for cell in row]
    assert not leaks(finished[0] / "saved_models" / "mine", rows, finished[0])
