"""The recipe `translation` from a CSV to a bundle that answers, and what it leaves behind."""

import csv
import json
import os

import litertlm_server
import numpy as np
import pandas
import pytest
import sacrebleu
from leaks import leaks
from pages import report_of

from tfx_transformer import bundle, cli, resources, runtime
from tfx_transformer.data import read_pairs, split_pairs
from tfx_transformer.errors import InputError
from tfx_transformer.models.saving import load

SETTINGS = {
    "csv": "my.csv",
    "source": "english",
    "target": "japanese",
    "skip_bad_rows": True,
    "share": 0.2,
    "name": "mine",
    "size": "nano",
    "vocabulary_size": 500,
    "max_length": 16,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "sentence": "I love dogs. " * 30,  # longer than the model reads, and than a title
}


@pytest.fixture(scope="module")
def recipe():
    return cli.recipe_main("translation")


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """The folder in which the recipe has run, and what it returned."""
    folder = tmp_path_factory.mktemp("work")
    pairs = read_pairs(resources.dataset_path("en_ja.csv")).take(range(80))
    with (folder / "my.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [*zip(pairs.source, pairs.target, strict=True), ("no translation", "")]
        csv.writer(file).writerows([("english", "japanese"), *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("tfx_transformer.export.signatures.DRAFTED", 1 << 30)  # without drafts
        return folder, recipe(**SETTINGS)


@pytest.fixture
def quick(finished, monkeypatch):
    """In that folder, and without the exports, which take most of the time."""
    monkeypatch.chdir(finished[0])
    monkeypatch.setattr("tfx_transformer.export.everything", lambda *_, **__: {})


def read_json(path):
    return json.loads(path.read_text("utf-8"))


def test_the_folders_hold_what_they_should(finished):
    folder, _ = finished
    assert sorted(os.listdir(folder)) == ["my.csv", "runs", "saved_models"]
    assert sorted(os.listdir(folder / "runs" / "mine")) == [
        "attention.png",
        "bad_rows.csv",
        "data.json",
        "evaluation.json",
        "exports.json",
        "files.json",
        "lengths.png",
        "loss.png",
        "metrics.csv",
        "previews.csv",
        "report.html",
        "result.json",
        "run.json",
        "samples.csv",
        "settings.json",
        "tensorboard",
    ]
    assert sorted(os.listdir(folder / "saved_models")) == ["mine"]
    assert sorted(os.listdir(folder / "saved_models" / "mine")) == [
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
        assert data.startswith(b"\x89PNG") and len(data) > 5_000


def test_the_report(finished):
    folder, result = finished
    found = result["scores"]
    scores = {"BLEU": f"{found['bleu']:.1f}", "chrF": f"{found['chrf']:.1f}"}
    scores["exact match"] = f"{100 * found['exact_match']:.1f} %"
    page = report_of(folder / "runs" / "mine", folder / "saved_models" / "mine", scores)
    with (folder / "runs" / "mine" / "samples.csv").open(encoding="utf-8") as file:
        samples = list(csv.DictReader(file))
    for row in samples[:12]:
        assert row["source"] in page.text() and row["reference"] in page.text()


def test_settings_are_the_flags(finished):
    settings = read_json(finished[0] / "runs" / "mine" / "settings.json")
    assert SETTINGS.items() <= settings.items()
    assert settings["validation"] is None and settings["seed"] == 1


def test_data_is_what_was_read(finished):
    folder, _ = finished
    training, validation = read_json(folder / "runs" / "mine" / "data.json")
    assert (training["rows"], validation["rows"]) == (64, 16)
    assert training["columns"] == {"source": "english", "target": "japanese"}
    assert training["bad_rows"] == 1 and validation["overlap"] == 0
    with (folder / "runs" / "mine" / "bad_rows.csv").open(encoding="utf-8") as file:
        (bad,) = csv.DictReader(file)
    assert (bad["row"], bad["column"]) == ("82", "japanese")


def test_metrics_and_the_best_epoch(finished):
    folder, result = finished
    metrics = pandas.read_csv(folder / "runs" / "mine" / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2, 3]
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[0], "it has learned nothing"
    best = int(np.argmin(metrics["val_loss"]))
    training = result["training"]
    assert (training["epochs"], training["best_epoch"]) == (3, best + 1)
    assert training["val_loss"] == pytest.approx(metrics["val_loss"][best], abs=1e-4)


def test_samples_are_what_the_bundle_writes(finished):
    folder, result = finished
    samples = pandas.read_csv(folder / "runs" / "mine" / "samples.csv", keep_default_na=False)
    pairs = read_pairs(folder / "my.csv", "english", "japanese", skip_bad_rows=True)
    _, held_out = split_pairs(pairs, 0.2, seed=1)
    assert samples["source"].tolist() == held_out.source
    assert samples["reference"].tolist() == held_out.target
    written = samples["written"].tolist()
    assert runtime.load(folder / "saved_models" / "mine").generate(held_out.source) == written
    assert result["scores"]["bleu"] == round(
        sacrebleu.corpus_bleu(written, [held_out.target], tokenize="char").score, 2
    )
    assert result["scores"]["exact_match"] == np.mean(samples["written"] == samples["reference"])


def test_previews_of_every_epoch(finished):
    previews = pandas.read_csv(finished[0] / "runs" / "mine" / "previews.csv")
    assert previews["epoch"].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert previews["source"].nunique() == 3


def test_the_result_is_told_three_times_alike(finished):
    folder, result = finished
    path = folder / "saved_models" / "mine"
    config = bundle.read_config(path)
    for key in ("training", "scores", "data", "verified"):
        assert config[key] == json.loads(json.dumps(result[key]))
    written = read_json(folder / "runs" / "mine" / "result.json")
    assert written == result["training"] | result["scores"] | {"conclusion": result["conclusion"]}
    assert f"- BLEU: {result['scores']['bleu']:.1f}\n" in (path / "README.md").read_text("utf-8")


def test_every_export_was_verified(finished):
    verified = finished[1]["verified"]
    assert verified.keys() == {"SavedModel", "TFLite float32", "TFLite int8"}
    for name in ("SavedModel", "TFLite float32"):
        assert verified[name]["identical"] == verified[name]["of"] == 16


def test_a_finished_run_is_not_overwritten_by_accident(recipe, finished, quick):
    before = (finished[0] / "saved_models" / "mine" / "SHA256SUMS").read_text()
    with pytest.raises(InputError, match="saved_models/mine exists already"):
        recipe(**SETTINGS)
    assert (finished[0] / "saved_models" / "mine" / "SHA256SUMS").read_text() == before
    assert (finished[0] / "runs" / "mine" / "result.json").is_file()


def test_a_run_that_comes_to_nothing_says_so(recipe, quick):
    with pytest.raises(InputError, match="Train for one epoch or more"):
        recipe(**SETTINGS | {"epochs": 0, "name": "none"})
    assert not os.path.exists("saved_models/none")


def test_validation_of_its_own(recipe, finished, quick, fitted):
    folder, _ = finished
    text = (folder / "my.csv").read_text("utf-8").splitlines(True)
    (folder / "other.csv").write_text(text[0] + "".join(text[1:6]), encoding="utf-8")
    try:
        fitted(recipe, **SETTINGS | {"validation": "other.csv", "name": "own"})
        training, validation = read_json(folder / "runs" / "own" / "data.json")
    finally:
        (folder / "other.csv").unlink()
    assert (training["rows"], validation["rows"], validation["overlap"]) == (80, 5, 5)


def test_the_bundle_holds_no_row_and_no_path(finished):
    with (finished[0] / "my.csv").open(encoding="utf-8") as file:
        rows = [cell for row in csv.reader(file) for cell in row]
    assert not leaks(finished[0] / "saved_models" / "mine", rows, finished[0])


@pytest.mark.slow
def test_a_decoder_only_translator_is_one_file(recipe, tmp_path, monkeypatch, bare):
    """It reads the sentence as a prompt; LiteRT-LM, also its server, translates as Keras does."""
    pytest.importorskip("litert_lm", reason="pip install litert-lm")
    from tfx_transformer import export
    from tfx_transformer.models.decoding import text_generator
    from tfx_transformer.runtime import litertlm

    pairs = read_pairs(resources.dataset_path("en_ja.csv")).take(range(60))
    with (tmp_path / "my.csv").open("w", encoding="utf-8", newline="") as file:
        rows = zip(pairs.source, pairs.target, strict=True)
        csv.writer(file).writerows([("english", "japanese"), *rows])
    monkeypatch.chdir(tmp_path)
    small = {"skip_bad_rows": False, "epochs": 12, "decoder_only": True, "name": "one"}
    result = recipe(**SETTINGS | small)
    assert 0 <= result["scores"]["chrf"] <= 100
    path = tmp_path / "saved_models" / "one"
    assert bundle.read_config(path)["task"] == "causal"
    by_keras = text_generator(*load(path))
    assert by_keras.engine.config.max_sequence_length == 2 * SETTINGS["max_length"]
    prompt = by_keras.tokenizer.decode(by_keras.encode(pairs.source[0]))
    assert prompt.strip() == pairs.source[0]
    export.litertlm(path, "float32")
    sentences = pairs.source[:6]
    expected = by_keras.generate(sentences, max_new_tokens=20)
    assert any(expected)
    assert litertlm.load(path).generate(sentences, max_new_tokens=20) == expected
    with litertlm_server.serving(tmp_path / "home") as send:
        file = path / bundle.LITERTLM
        found = [litertlm_server.chat(send, file, s, max_tokens=20) for s in sentences]
    assert found == expected
