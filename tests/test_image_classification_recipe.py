"""The recipe `image_classification` from drawn pictures to a bundle that tells them apart."""

import csv
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest
from leaks import leaks
from pages import report_of
from PIL import Image, ImageDraw
from sklearn.metrics import accuracy_score, f1_score
from tiny_models import tiny_encoder

from tfx_transformer import bundle, cli, export, runtime
from tfx_transformer.data import read_labelled_images, split_labelled_images
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import load, parameters, save
from tfx_transformer.text.tokenizer import Tokenizer

NAMES = ["ball", "bar"]
SIZE = 16
SETTINGS = {
    "images": "pictures",
    "share": 0.2,
    "name": "mine",
    "size": "nano",
    "layers": 1,
    "image_size": SIZE,
    "epochs": 16,
    "batch_size": 12,
    "learning_rate": 5e-3,
    "warmup_steps": 2,
    "average": 0.5,
    "stochastic_depth": 0.0,
}
ONE_EPOCH = SETTINGS | {"epochs": 1, "average": 0.0, "mix": 0.0}


def draw(path, kind, random):
    """A ball, or three bars, somewhere in a picture that is not square."""
    image = Image.new("RGB", (19, 17), tuple(random.integers(0, 60, 3).tolist()))
    colour = tuple(random.integers(150, 256, 3).tolist())
    x, y = random.integers(2, 7, 2).tolist()
    pen = ImageDraw.Draw(image)
    if kind == "ball":
        pen.ellipse((x, y, x + 9, y + 9), fill=colour)
    else:
        for shift in (0, 4, 8):
            pen.rectangle((x, y + shift, x + 9, y + shift + 1), fill=colour)
    image.save(path)


def one_export(path, inputs, calibration, generator, int4=None):
    """Export and verify one file: tests of exports have the others."""
    assert len(inputs) == 12 and len(calibration) == 48, "held-out images, and those of training"
    export.litert(path)
    return export.verify(path, list(inputs), generator=generator)


def read_json(path):
    return json.loads(Path(path).read_text("utf-8"))


@pytest.fixture(scope="module")
def recipe():
    return cli.recipe_main("image_classification")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 60 pictures, 30 of each kind."""
    folder, random = tmp_path_factory.mktemp("drawn") / "pictures", np.random.default_rng(1)
    for kind in NAMES:
        (folder / kind).mkdir(parents=True)
        for number in range(30):
            draw(folder / kind / f"{number}.png", kind, random)
    return folder


@pytest.fixture(scope="module")
def finished(recipe, pictures, tmp_path_factory):
    """The folder in which the recipe has run, and what it returned."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(pictures, folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfx_transformer.export.everything", one_export)
        patch.chdir(folder)
        return folder, recipe(**SETTINGS)


@pytest.fixture(scope="module")
def path(finished):
    return finished[0] / "saved_models" / "mine"


@pytest.fixture(scope="module")
def held_out(finished):
    """Files and labels that were held out."""
    return split_labelled_images(read_labelled_images(finished[0] / "pictures"), 0.2, 1)[1]


@pytest.fixture(scope="module")
def probabilities(path, held_out):
    """What LiteRT says of the held-out files."""
    return runtime.load(path).probabilities(held_out.files)


@pytest.fixture
def quick(finished, bare, monkeypatch):
    """In that folder, without exports and pictures."""
    monkeypatch.chdir(finished[0])


# What a run leaves behind


def test_the_folders_hold_what_they_should(finished, path):
    folder, _ = finished
    assert sorted(os.listdir(folder)) == ["pictures", "runs", "saved_models"]
    left = set(os.listdir(folder / "runs" / "mine"))
    mistakes = pandas.read_csv(folder / "runs" / "mine" / "mistakes.csv")
    assert ("mistakes.png" in left) == bool(len(mistakes))
    assert sorted(left - {"mistakes.png"}) == [
        "calibration.png",
        "classes.csv",
        "confusion.png",
        "cost.json",
        "data.json",
        "evaluation.json",
        "exports.json",
        "files.json",
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
        "model.safetensors",
        "model.tflite",
        "run.pyz",
        "split.json",
    ]
    settings = read_json(folder / "runs" / "mine" / "settings.json")
    assert SETTINGS.items() <= settings.items()


def test_the_report(finished, path):
    folder, result = finished
    accuracy = f"{100 * result['scores']['accuracy']:.1f} %"
    page = report_of(folder / "runs" / "mine", path, {"accuracy": accuracy})
    with (folder / "runs" / "mine" / "mistakes.csv").open(encoding="utf-8") as file:
        mistakes = list(csv.DictReader(file))
    thumbnails = [a for a in page.all("img") if a["src"].startswith("data:image/jpeg")]
    assert len(thumbnails) == len(mistakes), "the paths are relative to where the recipe ran"


def test_data_is_what_was_read(finished):
    training, validation = read_json(finished[0] / "runs" / "mine" / "data.json")
    assert (training["images"], validation["images"]) == (48, 12)
    assert training["labels"] == {"ball": 24, "bar": 24}
    assert validation["labels"] == {"ball": 6, "bar": 6}
    assert validation["overlap"] == 0 and training["sizes"] == [[19, 17]] * 3
    assert finished[1]["data"] == {"file": "pictures"}


def test_the_bundle_knows_labels_and_size(path):
    config = bundle.read_config(path)
    assert (config["task"], config["labels"]) == ("classification", NAMES)
    convolutions = {"image_size": SIZE, "conv_layers": 2, "max_sequence_length": 16}
    assert convolutions.items() <= config["architecture"].items()
    # 12 held-out images choose no factors: only the linear part answers.
    weights = parameters(load(path)[0])
    assert config["architecture"]["linear_cells"] == 4 and np.any(weights["linear/kernel"])
    assert not np.any(weights["logits/kernel"])
    assert (config["architecture"]["pooling"], config["architecture"]["num_classes"]) == (
        "attention",
        2,
    )
    card = (path / "README.md").read_text("utf-8")
    assert config["architecture"]["linear_patches"] == 128 and np.any(weights["linear/filters"])
    assert "example" not in config and "numpy tiktoken" not in card
    assert "python run.pyz photo.jpg\n" in card
    assert f"images of {SIZE} x {SIZE} pixels" in card and "tokenizer" not in card
    assert "language" not in card


def test_the_scores_are_those_of_the_bundle(finished, path, held_out, probabilities):
    folder, result = finished
    truth = [NAMES.index(file.parent.name) for file in held_out.files]
    predicted = probabilities.argmax(axis=1)
    scores = result["scores"]
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores["macro_f1"] > 0.9, "it has learned nothing"
    config = bundle.read_config(path)
    for key in ("training", "scores", "data", "verified"):
        assert config[key] == json.loads(json.dumps(result[key]))
    always, linear = read_json(folder / "runs" / "mine" / "result.json")["baselines"].values()
    assert (always["label"], always["accuracy"]) == ("ball", 0.5)
    assert 0 <= linear["accuracy"] <= 1


def test_the_best_epoch_is_kept(finished):
    folder, result = finished
    metrics = pandas.read_csv(folder / "runs" / "mine" / "metrics.csv")
    right = (metrics["val_macro_f1"] * result["scores"]["count"]).round()
    best = int(np.lexsort((-metrics["val_loss"], right))[-1])
    assert (result["training"]["epochs"], result["training"]["best_epoch"]) == (16, best + 1)
    assert result["scores"]["macro_f1"] == pytest.approx(metrics["val_macro_f1"][best])
    assert result["scores"]["accuracy"] == pytest.approx(metrics["val_accuracy"][best], abs=1e-6)


def test_the_export_answers_as_keras(finished, path, held_out, probabilities):
    verified = finished[1]["verified"]
    assert verified.keys() == {"TFLite float32"}
    assert verified["TFLite float32"]["identical"] == verified["TFLite float32"]["of"] == 12
    by_keras = predictor(load(path)[0], labels=NAMES).probabilities(held_out.files)
    np.testing.assert_allclose(probabilities, by_keras, atol=1e-4)
    assert np.ptp(by_keras, axis=0).min() > 0.1, "answers that are all alike would prove nothing"


# Other images and models


def test_paths_and_labels_in_a_table(recipe, finished, quick, fitted):
    folder, _ = finished
    files = sorted((folder / "pictures").glob("*/*.png"))
    rows = [(file.relative_to(folder), file.parent.name) for file in files[10:50]]
    for name, part in {
        "train.csv": rows[::2],
        "held.csv": [*rows[1::2], ("none.png", "bar")],
    }.items():
        with open(name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file", "kind"), *part])
    columns = {"path": "file", "label": "kind", "skip_bad_rows": True}
    tables = {"images": "train.csv", "validation": "held.csv", "name": "csv"}
    fitted(recipe, **ONE_EPOCH | columns | tables)
    training, validation = read_json("runs/csv/data.json")
    assert (training["images"], validation["images"], validation["bad_rows"]) == (20, 20, 1)
    bad = pandas.read_csv("runs/csv/bad_rows_validation.csv")
    assert bad["row"].tolist() == [22]


@pytest.mark.slow  # test_image_layers.py has the model, the run above the rest
def test_patches(recipe, finished, quick):
    # A Vision Transformer; average and mixing as in the run with convolutions.
    settings = {"conv_layers": 0, "patch_size": 4, "average": 0.9, "mix": 1.0, "epochs": 2}
    settings["linear_cells"] = 0
    result = recipe(**ONE_EPOCH | settings | {"name": "patches"})
    model, _ = load("saved_models/patches")
    assert (model.config.conv_layers, model.config.max_sequence_length) == (0, 16)
    assert parameters(model)["embedding/projection/kernel"].shape[:3] == (4, 4, 3)
    assert model.linear is None and np.any(parameters(model)["logits/kernel"])
    files = split_labelled_images(read_labelled_images("pictures"), 0.2, 1)[1].files
    by_keras = predictor(model, labels=NAMES).probabilities(files)
    truth = [NAMES.index(file.parent.name) for file in files]
    expected = f1_score(truth, by_keras.argmax(axis=1), average="macro")
    assert result["scores"]["macro_f1"] == pytest.approx(expected)


def test_base_continues(recipe, finished, quick, path, fitted):
    # The training begins with the weights of the base, and with a read-out of more labels.
    shutil.copytree("pictures", "others", dirs_exist_ok=True)
    os.rename("others/bar", "others/apple")
    sums = (path / bundle.SUMS).read_bytes()
    others = {"base": "saved_models/mine", "images": "others", "name": "again"}
    model, _ = fitted(recipe, **ONE_EPOCH | others)
    labels = list(read_json("runs/again/data.json")[0]["labels"])
    assert sorted(labels) == ["apple", "ball", "bar"], "the label that no image has stays"
    before, after = parameters(load(path)[0]), parameters(model)
    shared = [name for name in after if name.startswith(("embedding/", "encoder/"))]
    assert len(shared) > 10
    for name in shared:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    of_base = [labels.index(name) for name in NAMES]
    kernel = np.asarray(after["logits/kernel"])
    assert kernel.shape[1] == 3
    np.testing.assert_array_equal(kernel[:, of_base], before["logits/kernel"])
    assert (path / bundle.SUMS).read_bytes() == sums, "the base is read only"


# What cannot be trained


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """The path of a bundle that classifies texts."""
    path = tmp_path_factory.mktemp("base") / "texts"
    model = tiny_encoder(Classifier, num_classes=2, vocabulary_size=259)
    save(path, model, Tokenizer.train([], 259), labels=["a", "b"])
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images=bad"], "broken.png"),
        (["--images=one"], "one: 'z' is the only label."),
        (["--images=pictures/ball"], "the image is not in the folder of a label."),
        (["--images=nowhere"], "nowhere"),
        (["--validation=other"], "other, row 1: the label 'cube' is unknown."),
        (["--image-size=15", "--conv-layers=0"], "image_size 15 is not a multiple of patch_size 4"),
        (["--class-weights=even"], "argument --class-weights: invalid choice: 'even'"),
        (["--heads=3"], "hidden_dim 64 is not a multiple of num_heads 3"),
        (["--stochastic-depth=1"], "stochastic_depth is 1.0"),
        (["--patience=0"], "patience is 0 and minutes is 0.0."),
        (["--share=-1"], "the share to hold out is -1.0."),
        (["--base={}"], "reads texts, not images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_refused(
    command, pictures, texts, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trains"))
    shutil.copytree(pictures, tmp_path / "pictures")
    for folder in ("bad/x", "bad/y", "one", "other/cube"):
        shutil.copytree(pictures / "bar", tmp_path / folder / ("z" if folder == "one" else ""))
    whole = (tmp_path / "bad" / "y" / "0.png").read_bytes()
    (tmp_path / "bad" / "y" / "broken.png").write_bytes(whole[: len(whole) // 2])
    small = ("--images=pictures", "--size=nano", f"--image-size={SIZE}")
    given = [argument.replace("{}", str(texts)) for argument in arguments]
    status, _, errors = command("run", "image_classification", *small, *given)
    assert status == 2, errors
    assert message in errors and "fault of the program" not in errors
    assert not (tmp_path / "saved_models").exists()


def test_a_run_of_no_epoch_says_so(recipe, quick):
    with pytest.raises(InputError, match="Train for one epoch or more, with a lower learning rate"):
        recipe(**ONE_EPOCH | {"epochs": 0, "name": "none"})
    assert not os.path.exists("saved_models/none")


def test_the_bundle_holds_no_row_and_no_path(finished):
    files = sorted((finished[0] / "pictures").rglob("*.png"))
    rows = [str(file.relative_to(finished[0])) for file in files]
    assert not leaks(finished[0] / "saved_models" / "mine", rows, finished[0])
