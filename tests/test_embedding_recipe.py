"""The recipe `embedding` from pairs of texts to a bundle that finds what belongs together."""

import csv
import json
import os

import keras
import numpy as np
import pandas
import pytest
from leaks import leaks
from pages import report_of
from scipy.stats import rankdata, spearmanr
from slow import ALL_TESTS
from tiny_models import tiny_causal, tiny_encoder

from tfx_transformer import bundle, cli, export, resources, runtime
from tfx_transformer.data import read_pairs, read_sentence_pairs, split_sentence_pairs
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import load, parameters, save
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import MASK_TOKEN, Tokenizer

SETTINGS = {
    "csv": "my.csv",
    "first": "english",
    "second": "japanese",
    "share": 0.25,
    "skip_bad_rows": True,
    "name": "mine",
    "size": "nano",
    "vocabulary_size": 500,
    "max_length": 16,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "warmup_steps": 2,
}
ONE_EPOCH = SETTINGS | {"epochs": 1}
SCORED = {"score": "alike", "csv": "scored.csv", "validation": "checks.csv"}


def one_export(path, inputs, generator, int4=None):
    """Export and verify one file: tests of exports have the others."""
    export.litert(path)
    return export.verify(path, list(inputs), generator=generator)


def write(path, *rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def read_json(path):
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def recipe():
    return cli.recipe_main("embedding")


@pytest.fixture(scope="module")
def rows():
    pairs = read_pairs(resources.dataset_path("en_ja.csv")).take(range(80))
    return list(zip(pairs.source, pairs.target, strict=True))


@pytest.fixture(scope="module")
def finished(recipe, rows, tmp_path_factory):
    """The folder in which the recipe has run, and what it returned."""
    folder = tmp_path_factory.mktemp("work")
    write(folder / "my.csv", ("english", "japanese"), *rows, ("no translation", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfx_transformer.export.everything", one_export)
        patch.chdir(folder)
        return folder, recipe(**SETTINGS)


@pytest.fixture(scope="module")
def path(finished):
    return finished[0] / "saved_models" / "mine"


@pytest.fixture(scope="module")
def held_out(finished):
    pairs = read_sentence_pairs(finished[0] / "my.csv", "english", "japanese", skip_bad_rows=True)
    return split_sentence_pairs(pairs, 0.25, 1)[1]


@pytest.fixture
def quick(finished, bare, monkeypatch):
    """In that folder, without exports and pictures."""
    monkeypatch.chdir(finished[0])
    return finished[0]


@pytest.fixture
def scored(quick, rows):
    """Pairs that mean the same, 5, or have nothing in common, 0; and some with scores between."""
    same = [(a, b, 5) for a, b in rows[:30]]
    other = [(a, b, 0) for (a, _), (_, b) in zip(rows[30:50], rows[31:51], strict=True)]
    between = [(a, b, 1 + n % 7 / 2) for n, (a, b) in enumerate(rows[55:75])]
    header = ("english", "japanese", "alike")
    write("scored.csv", header, *same, *other)
    write("checks.csv", header, *between)
    return [score for *_, score in between]


# What a run leaves behind


def test_the_folders_hold_what_they_should(finished, path):
    folder, _ = finished
    assert sorted(os.listdir(folder)) == ["my.csv", "runs", "saved_models"]
    assert sorted(os.listdir(folder / "runs" / "mine")) == [
        "attention.png",
        "bad_rows.csv",
        "cost.json",
        "data.json",
        "evaluation.json",
        "exports.json",
        "files.json",
        "lengths.png",
        "loss.png",
        "metrics.csv",
        "pairs.csv",
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
        "model.safetensors",
        "model.tflite",
        "run.pyz",
        "split.json",
        "tokenizer.json",
    ]
    settings = read_json(folder / "runs" / "mine" / "settings.json")
    assert SETTINGS.items() <= settings.items()


def test_the_report(finished, path):
    folder, result = finished
    scores = {"retrieval accuracy": f"{100 * result['scores']['found']:.1f} %"}
    page = report_of(folder / "runs" / "mine", path, scores)
    pairs = pandas.read_csv(folder / "runs" / "mine" / "pairs.csv")
    assert (pairs["rank"] == 1).mean() == pytest.approx(result["scores"]["found"], abs=1e-4)
    assert ((pairs["nearest"] == pairs["second"]) >= (pairs["rank"] == 1)).all()
    shown = page.rows("Samples")
    assert [cells[1] for cells in shown.values()] == pairs["rank"].astype(str).tolist()[:12]


def test_data_is_what_was_read(finished, held_out):
    folder, result = finished
    training, validation = read_json(folder / "runs" / "mine" / "data.json")
    assert (training["rows"], validation["rows"]) == (80 - len(held_out), len(held_out))
    assert (training["bad_rows"], validation["overlap"]) == (1, 0)
    assert training["columns"] == {"first": "english", "second": "japanese"}
    assert result["data"] == {"file": "my.csv"} and "example" not in result


def test_the_scores_are_those_of_the_bundle(finished, path, held_out):
    _, result = finished
    embedder = runtime.load(path)
    first, second = embedder.embed(held_out.first), embedder.embed(held_out.second)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    # Of equal texts the own one comes first.
    ranks = [rankdata(-row, "min")[i] for i, row in enumerate((first @ second.T).round(5))]
    assert 1 < np.mean(ranks) < len(ranks) / 2, "it has learned something, but not all"
    scores = {
        "found": np.mean(np.equal(ranks, 1)),
        "mean_reciprocal_rank": np.mean(1 / np.array(ranks)),
    }
    assert result["scores"] == {name: pytest.approx(v, abs=1e-4) for name, v in scores.items()}
    config = bundle.read_config(path)
    assert config["task"] == "embedding" and "labels" not in config
    for key in ("training", "scores", "data", "verified"):
        assert config[key] == json.loads(json.dumps(result[key]))
    written = read_json(finished[0] / "runs" / "mine" / "result.json")
    assert written == result["training"] | result["scores"] | {"conclusion": result["conclusion"]}


def test_metrics_and_the_best_epoch(finished):
    folder, result = finished
    metrics = pandas.read_csv(folder / "runs" / "mine" / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2, 3]
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[0], "it has learned nothing"
    best = int(np.lexsort((-metrics["val_loss"], metrics["val_found"]))[-1])
    assert (result["training"]["epochs"], result["training"]["best_epoch"]) == (3, best + 1)
    assert result["scores"]["found"] == pytest.approx(metrics["val_found"][best], abs=1e-4)


def test_the_export_was_verified(finished, held_out):
    (found,) = finished[1]["verified"].values()
    assert found["identical"] == found["of"] == len(held_out)


# Pairs with scores


def test_scored_pairs_are_judged_by_rank(recipe, scored):
    result = recipe(**SETTINGS | SCORED | {"name": "scored", "epochs": 2})
    held_out = read_sentence_pairs("checks.csv", "english", "japanese")
    embedder = predictor(*load("saved_models/scored"))
    cosines = (embedder.embed(held_out.first) * embedder.embed(held_out.second)).sum(axis=1)
    expected = spearmanr(cosines, scored).statistic
    assert result["scores"] == {"spearman": pytest.approx(expected, abs=2e-4)}
    metrics = pandas.read_csv("runs/scored/metrics.csv")
    assert metrics["val_spearman"].max() == pytest.approx(expected, abs=2e-4)


def test_scores_of_both_files_are_on_the_scale_of_training(recipe, scored, fitted):
    _, given = fitted(recipe, **ONE_EPOCH | SCORED | {"name": "scale"})
    scores = {
        name: sorted(s for _, batch, _ in given[name].as_numpy_iterator() for s in batch.tolist())
        for name in ("x", "validation_data")
    }
    assert scores["x"] == [0] * 20 + [1] * 30
    assert scores["validation_data"] == pytest.approx(sorted(score / 5 for score in scored))


def test_widths_and_prompts_reach_the_model_and_its_batches(recipe, quick, fitted):
    prompts = {"query_prompt": "search: ", "document_prompt": "text: "}
    model, given = fitted(recipe, **ONE_EPOCH | prompts | {"widths": "32,16", "name": "cut"})
    assert model.config.widths == (16, 32)
    assert model.config.prompts == {"query": "search: ", "document": "text: "}
    (inputs, _, _) = next(iter(given["x"].as_numpy_iterator()))
    begins = [{tuple(row[:4]) for row in inputs[name]} for name in ("token_ids", "pair_token_ids")]
    assert [len(begin) for begin in begins] == [1, 1], "each text begins with the prompt"
    assert begins[0] != begins[1]


# A base


@pytest.mark.slow  # the loop below has its weights and sizes before the training
def test_a_masked_base_is_fine_tuned(recipe, rows, quick):
    # At a rate of almost nothing the encoder stays what it was; sizes are those of the base.
    words = Tokenizer.train([text for row in rows for text in row], 300, [MASK_TOKEN])
    base = tiny_encoder(MaskedLM, vocabulary_size=300)
    save("saved_models/base", base, words)
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "base": "saved_models/base"}
    recipe(**ONE_EPOCH | still | {"name": "tuned", "max_length": 99})
    model, tokenizer = load("saved_models/tuned")
    assert tokenizer.ranks == words.ranks
    assert (model.task, model.config.max_sequence_length) == ("embedding", 19)
    before, after = parameters(base), parameters(model)
    assert all(path.startswith(("embedding/", "encoder/")) for path in after)
    for path, weight in after.items():
        np.testing.assert_allclose(weight, before[path], atol=1e-6, err_msg=path)


def test_the_pooling_of_a_base_is_kept_unless_another_is_asked_for(recipe, rows, quick, fitted):
    words = Tokenizer.train([text for row in rows for text in row], 300, [MASK_TOKEN])
    bases = {
        "masked": tiny_encoder(MaskedLM, vocabulary_size=300),
        "last": tiny_encoder(Embedder, vocabulary_size=300, position="rotary", pooling="last"),
        "weighing": tiny_encoder(Embedder, vocabulary_size=300, pooling="attention"),
        "first": tiny_encoder(Classifier, vocabulary_size=300, pooling="first", num_classes=2),
    }
    for name, base in bases.items():
        save(f"saved_models/{name}", base, words)
    ids = np.array([frame(words, rows[0][0], 19)], "int32")
    kernel, bias = (weight.numpy() for weight in bases["weighing"].pooling.weights)

    def weighed(x):
        weights = np.exp(x @ kernel + bias)
        return (weights * x).sum(0) / weights.sum()

    for base, pooling, by_hand in (
        *([("last", "", lambda x: x[-1])] if ALL_TESTS else ()),  # as the one that weighs
        ("last", "max", lambda x: x.max(0)),
        ("first", "", lambda x: x.mean(0)),  # it was not trained to embed
        ("masked", "", lambda x: x.mean(0)),
        ("weighing", "", weighed),
    ):
        settings = {"name": "of", "base": f"saved_models/{base}", "pooling": pooling}
        model, _ = fitted(recipe, **ONE_EPOCH | settings | {"max_length": 99})
        assert (model.task, model.config.max_sequence_length) == ("embedding", 19)
        vector = by_hand(np.asarray(bases[base].encode({"token_ids": ids})[0][0]))
        found = np.asarray(model({"token_ids": ids})[0])
        np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-5)
    assert read_json(quick / "runs" / "of" / "settings.json")["pooling"] == "attention"


def test_a_run_that_an_earlier_version_began_goes_on(recipe, rows, quick, monkeypatch):
    """It had another rate and other passes, no decay by layers, and a case beside a base."""

    class Fits(Exception):
        pass

    def fit(*_, kept, **__):
        raise Fits(kept)

    def begun(**settings):
        with pytest.raises(Fits) as caught:
            recipe(**ONE_EPOCH | {"name": "early", "base": "saved_models/early_base"} | settings)
        (kept,) = caught.value.args
        return json.loads(json.dumps(kept))

    words = Tokenizer.train([text for row in rows for text in row], 300, [MASK_TOKEN])
    save("saved_models/early_base", tiny_encoder(MaskedLM, vocabulary_size=300), words)
    monkeypatch.setattr("tfx_transformer.training.run.fit", fit)
    before = begun(epochs=20, learning_rate=1e-3, layer_decay=1.0)
    del before["settings"]["layer_decay"]
    before["settings"]["case"] = "lower"
    monkeypatch.setattr("tfx_transformer.training.checkpoints.Checkpoints.peek", lambda _: before)
    again = begun(epochs=None, learning_rate=None)
    assert again["model"] == before["model"]
    assert (again["settings"]["epochs"], again["settings"]["learning_rate"]) == (20, 1e-3)
    with pytest.raises(InputError, match="--epochs was 20 and is 4"):
        begun(epochs=4)


# What cannot be trained


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """The path of a bundle of another task."""
    path = tmp_path_factory.mktemp("base") / "causal"
    save(path, tiny_causal(vocabulary_size=259), Tokenizer.train([], 259))
    return path


FILES = {
    "my.csv": [("a", "b"), *((f"text {n}", f"文 {n}") for n in range(40))],
    "one.csv": [("a", "b"), ("x", "y")],
    "scored.csv": [("a", "b", "s"), ("x", "y", 0), ("z", "w", 5), ("u", "v", 2)],
    "outside.csv": [("a", "b", "s"), ("x", "y", 1), ("z", "w", 6)],
    "equal.csv": [("a", "b", "s"), ("x", "y", 3), ("z", "w", 3)],
}
CHECKED = ("--csv=scored.csv", "--score=s", "--batch-size=2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv=one.csv"], "one.csv: cannot be split"),
        (["--csv=nowhere.csv"], "nowhere.csv: "),
        (["--second=c"], "there is no column 'c'"),
        (["--validation=one.csv"], "there is only one pair."),
        ([*CHECKED, "--validation=outside.csv"], "outside.csv, row 3: column 's' is 6: outside"),
        ([*CHECKED, "--validation=equal.csv"], "equal.csv: all held-out pairs have the same score"),
        (["--max-length=2"], "max_length is 2.\n  Expected 3 or more"),
        (["--batch-size=1"], "batch_size is 1.\n  Pairs are compared: expected 2 or more."),
        (["--heads=3"], "hidden_dim 64 is not a multiple of num_heads 3"),
        (["--temperature=0"], "temperature is 0.0.\n  Expected more than 0."),
        (["--layer-decay=2"], "layer_decay is 2.0"),
        (["--patience=0"], "patience is 0 and minutes is 0.0."),
        (["--share=1.5"], "the share to hold out is 1.5."),
        (["--base={}"], "the base, a causal model, has no weight encoder/"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_refused(
    command, causal, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trains"))
    for name, table in FILES.items():
        write(tmp_path / name, *table)
    small = ("--csv=my.csv", "--first=a", "--second=b", "--size=nano", "--vocabulary-size=262")
    given = [argument.replace("{}", str(causal)) for argument in arguments]
    status, _, errors = command("run", "embedding", *small, *given)
    assert status == 2, errors
    assert message in errors and "fault of the program" not in errors
    assert not (tmp_path / "saved_models").exists()


def test_a_run_of_no_epoch_says_so(recipe, quick):
    with pytest.raises(InputError, match="Train for one epoch or more, with a lower learning rate"):
        recipe(**ONE_EPOCH | {"epochs": 0, "name": "none"})
    assert not os.path.exists("saved_models/none")


def test_the_bundle_holds_no_row_and_no_path(finished):
    with (finished[0] / "my.csv").open(encoding="utf-8") as file:
        rows = [cell for row in csv.reader(file) for cell in row]
    assert not leaks(finished[0] / "saved_models" / "mine", rows, finished[0])
