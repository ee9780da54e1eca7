"""Encoder-only models saved, loaded, and asked for labels and vectors of texts and images."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from by_numpy import softmax
from PIL import Image
from resealed import change_config
from tiny_models import CONVOLUTIONS, PATCHES, tiny_encoder

from tfx_transformer.errors import InputError
from tfx_transformer.images import resize
from tfx_transformer.models import saving
from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM
from tfx_transformer.models.predicting import predictor
from tfx_transformer.prediction import ImageClassifier, TextClassifier, TextEmbedder
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

NAMES = ["bird", "猫", "dog"]
LONGEST = 19
WORDS = ["the", "cat", "sees", "a", "dog", "猫", "が", "見る", "!", "and"]
COLOURS = np.random.default_rng(0).uniform(0, 255, (2, 15, 15, 3)).astype("float32")
IDS = np.array([[1, 70, 80, 90, 2, 0], [1, 5, 6, 7, 8, 2]], "int32")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([" ".join(WORDS)] * 5, 270)


@pytest.fixture(scope="module")
def new(tokenizer):
    """Makes a model that reads texts with the tokenizer."""

    def make(task, **settings):
        return tiny_encoder(task, vocabulary_size=tokenizer.vocabulary_size, **settings)

    return make


@pytest.fixture(scope="module")
def texts():
    """From a word to more than the models read, the lengths mixed."""
    random = np.random.default_rng(1)
    return [
        " ".join(random.choice(WORDS, length)) for length in (1, 3, 2, 30, 5, 4, 9, 7, 1, 12, 6)
    ]


@pytest.fixture(scope="module")
def classifier(new, tokenizer):
    classifier = predictor(new(Classifier, num_classes=3), tokenizer, NAMES)
    classifier.batch_size = 5  # so that some texts are not of the first batch
    return classifier


@pytest.fixture(scope="module")
def images():
    return predictor(tiny_encoder(Classifier, num_classes=3, **PATCHES), labels=NAMES)


def by_hand(model, tokenizer, texts):
    """The model's answer to one text after the other."""
    rows = [np.array([frame(tokenizer, text, LONGEST)], "int32") for text in texts]
    return np.concatenate([model({"token_ids": row}, training=False) for row in rows])


# Texts


@pytest.mark.parametrize(("texts", "least"), [("猫が見る", 2), (["a cat", "", "a dog"], 4)])
def test_a_frame_has_room_for_its_start_and_ends(tokenizer, texts, least):
    ends = [tokenizer.end_id] * (least - 1)
    assert frame(tokenizer, texts, least) == [tokenizer.start_id, *ends]
    for length in (least - 1, 0, -7):
        with pytest.raises(InputError, match=f"^max_length is {length}\\.\n  Expected {least} or"):
            frame(tokenizer, texts, length)


def test_texts_are_classified_in_the_order_given(classifier, tokenizer, texts):
    assert isinstance(classifier, TextClassifier)
    assert len({len(frame(tokenizer, text, LONGEST)) for text in texts}) > 4
    expected = softmax(by_hand(classifier.engine.model, tokenizer, texts))
    probabilities = classifier.probabilities(texts)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert len(set(expected.argmax(axis=1))) > 1, "texts differ"
    for found, row in zip(classifier.classify(texts), expected, strict=True):
        best = int(row.argmax())
        assert found.label == NAMES[best] and found.labels == (NAMES[best],)
        assert found.probability == pytest.approx(row[best], abs=1e-5)
        assert list(found.probabilities) == NAMES
        assert list(found.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-5)
        json.dumps(found._asdict())


def test_a_single_text_is_answered_alone(classifier, texts):
    single, (listed,) = classifier.classify(texts[0]), classifier.classify(texts[:1])
    assert single == listed and isinstance(single.label, str)


def test_a_row_may_have_several_texts(classifier, tokenizer):
    rows = [("the cat", "a dog"), ("the cat a dog", ""), ("a dog", "the cat")]
    expected = softmax(by_hand(classifier.engine.model, tokenizer, rows))
    np.testing.assert_allclose(classifier.probabilities(rows), expected, atol=1e-5)
    assert np.abs(expected[1:] - expected[0]).max(axis=1).min() > 1e-3, "columns matter"
    first = classifier.classify(rows)[0]
    assert first.probability == pytest.approx(expected[0].max(), abs=1e-5)


def test_every_label_above_one_half_is_given(new, tokenizer, texts):
    model = new(Classifier, num_classes=3, multi_label=True)
    asked = predictor(model, tokenizer, NAMES)
    expected = 1 / (1 + np.exp(-by_hand(model, tokenizer, texts).astype("float64")))
    np.testing.assert_allclose(asked.probabilities(texts), expected, atol=1e-5)
    labels = [tuple(n for n, p in zip(NAMES, row, strict=True) if p > 0.5) for row in expected]
    assert [found.labels for found in asked.classify(texts)] == labels
    assert len({len(chosen) for chosen in labels}) > 1


def test_labels_by_hand():
    several, one = Labels(NAMES, multi_label=True), Labels(NAMES)
    logits = np.log(np.array([[3, 1 / 3, 1], [1 / 3, 1 / 7, 1 / 4]], "float32"))
    table = several.probabilities(logits)
    np.testing.assert_allclose(table, [[0.75, 0.25, 0.5], [0.25, 0.125, 0.2]], atol=1e-6)
    first, second = several.classifications(table)
    assert (first.label, first.labels) == ("bird", ("bird",)), "one half is not more than it"
    assert (second.label, second.labels) == ("bird", ())
    np.testing.assert_allclose(one.probabilities(logits)[0], np.array([9, 1, 3]) / 13, atol=1e-6)
    # Far beyond what exp can hold.
    huge = np.array([[1000, 0, -1000]], "float32")
    assert one.probabilities(huge).tolist() == [[1, 0, 0]]
    assert several.probabilities(huge).tolist() == [[1, 0.5, 0]]


def test_texts_become_unit_vectors(new, tokenizer, texts):
    model = new(Embedder)
    embedder = predictor(model, tokenizer)
    assert isinstance(embedder, TextEmbedder) and embedder.tokenizer is tokenizer
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, by_hand(model, tokenizer, texts), atol=1e-5)
    assert embedder.embed(texts[0]).shape == (24,)
    np.testing.assert_allclose(embedder.embed(texts[0]), vectors[0], atol=1e-5)
    pairs = [("the cat", "a dog"), ("a dog", "the cat")]
    np.testing.assert_allclose(embedder.embed(pairs), by_hand(model, tokenizer, pairs), atol=1e-5)


def test_no_texts_are_refused(classifier, new, tokenizer):
    embedder = predictor(new(Embedder), tokenizer)
    for ask in (classifier.classify, classifier.probabilities, embedder.embed):
        with pytest.raises(InputError, match="no texts"):
            ask([])


# Images


def test_images_come_as_files_bytes_and_arrays(images, tmp_path):
    assert isinstance(images, ImageClassifier)
    pixels = np.random.default_rng(2).integers(0, 256, (13, 17, 3), "uint8")
    file = tmp_path / "cat.png"
    Image.fromarray(pixels).save(file)
    shown = {"images": resize(pixels, 15)[None]}
    expected = softmax(np.asarray(images.engine.model(shown, training=False)))[0]
    for source in (file, str(file), file.read_bytes(), pixels):
        found = images.classify(source)
        assert list(found.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert found.label == NAMES[expected.argmax()]


def test_images_are_classified_in_the_order_given(images):
    many = np.random.default_rng(3).integers(0, 256, (33, 15, 15, 3), "uint8")
    many = list(many * np.linspace(0, 1, 33)[:, None, None, None].astype("float32"))
    logits = images.engine.model({"images": np.stack(many)}, training=False)
    probabilities = images.probabilities(many)
    np.testing.assert_allclose(probabilities, softmax(np.asarray(logits)), atol=1e-5)
    assert np.ptp(probabilities, axis=0).max() > 0.01, "images differ"
    labels = [NAMES[index] for index in probabilities.argmax(axis=1)]
    assert [found.label for found in images.classify(many)] == labels


def test_no_image_is_refused_and_a_broken_one_named(images, tmp_path):
    with pytest.raises(InputError, match="no images"):
        images.classify([])
    file = tmp_path / "note.png"
    file.write_text("no image")
    with pytest.raises(InputError, match=r"note\.png"):
        images.classify([np.zeros((3, 5, 3), "uint8"), file])
    cut = io.BytesIO()
    Image.fromarray(np.zeros((99, 99, 3), "uint8")).save(cut, "PNG")
    with pytest.raises(InputError, match="the image"):
        images.classify(cut.getvalue()[:40])


# Bundles


@pytest.mark.parametrize("task", [MaskedLM, Classifier, Embedder])
def test_a_loaded_encoder_computes_the_same(task, new, tokenizer, tmp_path):
    model = new(task, num_classes=3, position="learned", embedding_norm=True)
    labels = {"labels": NAMES} if task is Classifier else {}
    saving.save(tmp_path / "b", model, tokenizer, **labels)
    again, its_tokenizer = saving.load(tmp_path / "b", task=model.task)
    assert type(again) is task and again.config == model.config
    assert its_tokenizer.to_json() == tokenizer.to_json()
    inputs = {"token_ids": IDS}
    if task is MaskedLM:
        inputs["masked_positions"] = np.array([[2], [4]], "int32")
    np.testing.assert_array_equal(again(inputs), model(inputs))
    config = json.loads((tmp_path / "b" / "config.json").read_text("utf-8"))
    assert config["task"] == model.task and config.get("labels", []) == labels.get("labels", [])
    card = (tmp_path / "b" / "README.md").read_text("utf-8")
    assert ("bird, 猫, dog" in card) == (task is Classifier)


@pytest.mark.parametrize("settings", [PATCHES, CONVOLUTIONS], ids=["patches", "convolutions"])
def test_a_classifier_of_images_needs_no_tokenizer(settings, tmp_path):
    model = tiny_encoder(Classifier, num_classes=3, **settings)
    saving.save(tmp_path / "b", model, labels=NAMES)
    again, its_tokenizer = saving.load(tmp_path / "b")
    assert its_tokenizer is None and again.config == model.config
    shown = {"images": COLOURS[:, : model.config.image_size, : model.config.image_size]}
    np.testing.assert_array_equal(again(shown), model(shown))
    assert not (tmp_path / "b" / "tokenizer.json").exists()
    card = (tmp_path / "b" / "README.md").read_text("utf-8")
    size = model.config.image_size
    assert f"images of {size} x {size} pixels, read as 9 vectors" in card and "numpy pillow" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 100_000}, "needs .* or more"),
        ({"num_classes": 2_000_000_000}, "num_classes is 2000000000"),
        ({"image_size": 4_096, "patch_size": 256}, "needs .* or more"),
        ({"patch_size": 2_000_000_000}, "patch_size is 2000000000"),
        ({"image_size": 4_096, "patch_size": 1}, "becomes 16,777,216 vectors"),
        ({"image_size": 635, "position": "learned"}, "needs .* or more"),
        ({"image_size": -5}, "image_size is -5"),
        ({"image_size": 0}, "vocabulary_size is 0"),
        ({"vocabulary_size": 2_000_000}, "vocabulary_size is 2000000"),
        ({"conv_layers": 2_000_000_000}, "conv_layers is 2000000000"),
        ({"hidden_dim": 32_766, "embedding_dim": 32_766}, "needs .* or more"),
        ({"hidden_dim": 32_766}, "embedding_dim is 24"),
    ],
)
def test_a_hostile_architecture_builds_nothing(changes, message, tmp_path, monkeypatch):
    saving.save(tmp_path / "b", tiny_encoder(Classifier, num_classes=3, **PATCHES), labels=NAMES)
    change_config(tmp_path / "b", **changes)
    monkeypatch.setattr(Classifier, "__init__", lambda *_, **__: pytest.fail("a model was built"))
    with pytest.raises(InputError, match=message):
        saving.load(tmp_path / "b")
