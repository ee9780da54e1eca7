"""Small encoder-only models, exported once for all tests that need their bundles."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from tiny_models import CONVOLUTIONS, tiny_encoder

from tfx_transformer import export
from tfx_transformer.models.encoders import Classifier, Embedder
from tfx_transformer.models.saving import save
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

NAMES = ["bird", "猫", "dog"]
LONGEST = 19
WORDS = ["the", "cat", "sees", "a", "dog", "猫", "が", "見る", "!", "and"]


@dataclass(frozen=True)
class Exported:
    """A bundle with SavedModel and TFLite files; tests read it, and change only a `copy`.

    model, tokenizer: what was saved; inputs: texts or image files; outputs: float32 (inputs,
    width), of the model for each by itself; verified: what the export returned.
    """

    path: Path
    model: keras.Model
    tokenizer: Tokenizer | None
    inputs: list
    outputs: np.ndarray
    verified: dict[str, Any]

    def copy(self, folder: Path) -> Path:
        """The same bundle in another folder."""
        return shutil.copytree(self.path, folder / self.path.name)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def ids_of(tokenizer, texts):
    """What the models read of each text."""
    return [frame(tokenizer, text, LONGEST) for text in texts]


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    return Tokenizer.train([" ".join(WORDS)] * 5, 270)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """From one word to more than the models read, the lengths mixed."""
    random = np.random.default_rng(1)
    return [" ".join(random.choice(WORDS, length)) for length in random.integers(1, 25, 23)]


def of_texts(path, task, tokenizer, texts, make=export.everything, details=(), **settings):
    """A bundle of a model for texts; make: adds the exports."""
    model = tiny_encoder(task, vocabulary_size=tokenizer.vocabulary_size, **settings)
    save(path, model, tokenizer, **dict(details))
    rows = [np.array([ids], "int32") for ids in ids_of(tokenizer, texts)]
    outputs = np.concatenate([model({"token_ids": row}, training=False) for row in rows])
    return Exported(path, model, tokenizer, texts, outputs, make(path, texts))


@pytest.fixture(scope="session")
def text_classifier(words, texts, tmp_path_factory) -> Exported:
    """Of sinusoidal positions."""
    path = tmp_path_factory.mktemp("encoders") / "animals"
    details = {"labels": NAMES, "scores": {"accuracy": 0.5}, "text_columns": 1}
    return of_texts(path, Classifier, words, texts, details=details, num_classes=3)


@pytest.fixture(scope="session")
def topic_classifier(words, texts, tmp_path_factory) -> Exported:
    """Of which several labels may be right at once; without an int8 file."""

    def make(path, texts):
        export.saved_model(path)
        export.litert(path)
        return export.verify(path, texts)

    path = tmp_path_factory.mktemp("encoders") / "topics"
    settings = {"num_classes": 3, "multi_label": True, "position": "learned"}
    return of_texts(path, Classifier, words, texts, make, {"labels": NAMES}, **settings)


@pytest.fixture(scope="session")
def text_embedder(words, texts, tmp_path_factory) -> Exported:
    """Of rotary positions."""
    path = tmp_path_factory.mktemp("encoders") / "vectors"
    return of_texts(path, Embedder, words, texts, position="rotary", pooling="first")


@pytest.fixture(scope="session")
def image_classifier(tmp_path_factory) -> Exported:
    """Of a convolutional tokenizer; its images are PNG files, two of each label."""
    folder = tmp_path_factory.mktemp("encoders")
    random = np.random.default_rng(2)
    files = []
    for label in sorted(NAMES):
        (folder / "images" / label).mkdir(parents=True)
        for number, light in enumerate((0.3, 1.0)):
            pixels = light * random.uniform(0, 256, (*random.integers(7, 30, 2), 3))
            files.append(folder / "images" / label / f"{number}.png")
            Image.fromarray(pixels.astype("uint8")).save(files[-1])
    model = tiny_encoder(Classifier, num_classes=3, **CONVOLUTIONS)
    save(folder / "pictures", model, labels=NAMES, example="bird.png")
    shown = np.stack([resized(file, CONVOLUTIONS["image_size"]) for file in files])
    outputs = np.asarray(model({"images": shown}, training=False))
    verified = export.everything(folder / "pictures", files)
    return Exported(folder / "pictures", model, None, files, outputs, verified)


def resized(file, size):
    """An image as the models read it, by TensorFlow."""
    import tensorflow as tf

    pixels = np.asarray(Image.open(file).convert("RGB"))
    return tf.image.resize(pixels, (size, size), antialias=True).numpy()
