"""Heads that a page has trained on frozen vectors become classifiers."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from tiny_models import PATCHES, tiny_encoder

import tfx_transformer as tfx
from tfx_transformer.cli import models
from tfx_transformer.errors import InputError
from tfx_transformer.models.heads import add_head, read_head


@pytest.fixture
def head_file(tmp_path):
    """Writes a head for vectors of a width, as a page does, and returns its file."""

    def write(width=24, **changes):
        random = np.random.default_rng(5)
        values = {"format": 1, "base": "x", "prompt": "", "labels": ["cat", "犬", "bird"]}
        values |= {"weights": random.normal(size=(3, width)).tolist(), "bias": [0.5, -1.0, 0.25]}
        file = tmp_path / "head.json"
        file.write_text(json.dumps(values | changes), "utf-8")
        return file

    return write


@pytest.mark.slow(but=["False-0", "True-7"])
@pytest.mark.parametrize(("normalize", "bag"), [(True, 0), (False, 0), (True, 7)])
def test_an_embedder_with_a_head_is_a_classifier(encoder_words, head_file, normalize, bag):
    size = encoder_words.vocabulary_size
    base = tiny_encoder(tfx.Embedder, vocabulary_size=size, normalize=normalize, bag_dim=bag)
    if bag:
        base.set_share(0.3)
    head = read_head(head_file(width=24 + bag))
    texts = ["the cat", "dog dog", "a 猫 sees the dog"]
    expected = softmax(
        tfx.predictor(base, encoder_words).embed(texts) @ head.weights.T + head.bias, axis=1
    )
    model = add_head(base, head)
    found = tfx.predictor(model, encoder_words, head.labels).probabilities(texts)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0.01, "the texts differ"
    again = tfx.Classifier(tfx.config_for_fine_tuning(model.config, bag_dim=bag))
    tfx.copy_weights(again, model, head.labels, head.labels)
    ids = np.array([[1, 9, 5, 2], [1, 7, 2, 0]], "int32")
    np.testing.assert_allclose(again(ids), model(ids), rtol=1e-5, atol=1e-6)


def test_a_classifier_of_images_with_another_head(head_file):
    base = tiny_encoder(tfx.Classifier, num_classes=2, **PATCHES)
    head = read_head(head_file())
    images = list(np.random.default_rng(1).integers(0, 256, (3, 9, 11, 3)).astype("uint8"))
    vectors = tfx.predictor(base, labels=["a", "b"]).features(images)
    found = tfx.predictor(add_head(base, head), labels=head.labels).probabilities(images)
    expected = softmax(vectors @ head.weights.T + head.bias, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_verb_makes_a_bundle_of_it(encoder_words, head_file, command, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "FORMATS", {"litert": lambda exported: None})
    base = tiny_encoder(tfx.Embedder, vocabulary_size=encoder_words.vocabulary_size)
    tfx.save(tmp_path / "saved_models" / "similar", base, encoder_words)
    arguments = ["export", "saved_models/similar", "--to", "litert", "--head", head_file()]
    status, output, errors = command(*arguments)
    assert (status, output) == (0, "Saved as saved_models/similar-taught\n"), errors
    model, _ = tfx.load(tmp_path / "saved_models" / "similar-taught", task="classification")
    np.testing.assert_allclose(model.logits.weights[1], [0.5, -1, 0.25])
    assert tfx.bundle.read_config("saved_models/similar-taught")["labels"][1] == "犬"
    status, _, errors = command(*arguments)
    assert status == 2 and "similar-taught" in errors, "it is not replaced"
    (tmp_path / "table.csv").write_text("other\nx\n", "utf-8")
    status, _, errors = command(*arguments, "--name", "new", "--check", "table.csv")
    assert status == 2 and "column 'text'" in errors
    assert not (tmp_path / "saved_models" / "new").exists(), "the table is read first"


def test_a_checkpoint_was_not_taught(command, head_file):
    status, _, errors = command("export", "minilm", "--name", "x", "--head", head_file())
    assert (status, errors) == (
        2,
        "--head goes with the bundle in whose page it was taught; minilm is a checkpoint.\n"
        "  First make a bundle of it: tfx-transformer export minilm\n",
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["a", "a", "b"]}, "different labels"),
        ({"labels": "abc"}, "labels are not texts"),
        ({"labels": ["a", "b"]}, "do not fit the labels"),
        ({"weights": [["x"], ["y"], ["z"]]}, "is not a classifier"),
        ({"weights": [[1e999], [0], [0]]}, "not a finite number|is not a classifier|JSON"),
        ({"bias": [1, 2]}, "do not fit the labels"),
        ({"format": 2}, "format 2"),
        ({"prompt": "query: "}, "'query: '.*\n.*CSV"),
    ],
)
def test_other_files_are_refused(head_file, changes, words):
    with pytest.raises(InputError, match=words):
        read_head(head_file(**changes))


def test_heads_of_other_models_are_refused(head_file):
    head = read_head(head_file(width=23))
    with pytest.raises(InputError, match="width 23; those of the bundle have 24"):
        add_head(tiny_encoder(tfx.Embedder), head)
    projections = ({"width": 23, "activation": "tanh", "use_bias": True},)
    with pytest.raises(InputError, match="projections"):
        add_head(tiny_encoder(tfx.Embedder, projections=projections), head)
    with pytest.raises(InputError, match="gives no vectors for a head"):
        add_head(tiny_encoder(tfx.Classifier, num_classes=3), head)
