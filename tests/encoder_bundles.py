"""Small encoder-only models, exported once for all tests that need their bundles."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

NAMES = ["bird", "猫", "dog"]
LONGEST = 19
# The converter leaves matrices of fewer than 1,024 weights in float32.
WIDTHS = {"hidden_dim": 48, "intermediate_dim": 29}
WORDS = ["the", "cat", "sees", "a", "dog", "猫", "が", "見る", "!", "and"]


@dataclass(frozen=True)
class Exported:
    """A bundle with SavedModel and TFLite files; tests read it, and change only a `copy`.

    model, tokenizer: what was saved; inputs: texts or image files; outputs: float32 (inputs,
    width), of the model for each by itself; verified: what the export returned.
    """

    path: Path
    model: Any
    tokenizer: Tokenizer | None
    inputs: list
    outputs: np.ndarray
    verified: dict[str, Any]

    def copy(self, folder: Path) -> Path:
        """The same bundle in another folder."""
        return shutil.copytree(self.path, folder / self.path.name)


def ids_of(tokenizer, texts):
    """What the models read of each text."""
    return [frame(tokenizer, text, LONGEST) for text in texts]


def one_by_one(model, tokenizer, texts):
    """The model's output for each text, without padding."""
    rows = [np.array([ids], "int32") for ids in ids_of(tokenizer, texts)]
    return np.concatenate([model({"token_ids": row}, training=False) for row in rows])


@pytest.fixture(scope="session")
def encoder_words() -> Tokenizer:
    """The tokenizer of all models for texts."""
    return Tokenizer.train([" ".join(WORDS)] * 5, 270)


@pytest.fixture(scope="session")
def encoder_texts() -> list[str]:
    """From one word to more than the models read, the lengths mixed."""
    random = np.random.default_rng(1)
    return [" ".join(random.choice(WORDS, length)) for length in random.integers(1, 25, 23)]


def of_texts(path, task, tokenizer, texts, make=None, details=(), **settings):
    """A bundle of a model for texts; task: name of its class; make: adds exports, else all."""
    from tiny_models import tiny_encoder

    import tfx_transformer as tfx

    size = tokenizer.vocabulary_size
    model = tiny_encoder(getattr(tfx, task), vocabulary_size=size, **WIDTHS, **settings)
    tfx.save(path, model, tokenizer, **dict(details))
    outputs = one_by_one(model, tokenizer, texts)
    verified = (make or tfx.export.everything)(path, texts)
    return Exported(path, model, tokenizer, texts, outputs, verified)


@pytest.fixture(scope="session")
def text_classifier(encoder_words, encoder_texts, tmp_path_factory) -> Exported:
    """Of sinusoidal positions."""
    path = tmp_path_factory.mktemp("encoders") / "animals"
    details = {"labels": NAMES, "scores": {"accuracy": 0.5}, "text_columns": 1}
    settings = {"details": details, "num_classes": 3}
    return of_texts(path, "Classifier", encoder_words, encoder_texts, **settings)


@pytest.fixture(scope="session")
def topic_classifier(encoder_words, encoder_texts, tmp_path_factory) -> Exported:
    """Of which several labels may be right at once; without an int8 file."""

    def make(path, texts):
        from tfx_transformer import export

        export.saved_model(path)
        export.litert(path)
        return export.verify(path, texts)

    path = tmp_path_factory.mktemp("encoders") / "topics"
    settings = {"num_classes": 3, "multi_label": True, "position": "learned"}
    settings |= {"make": make, "details": {"labels": NAMES}}
    return of_texts(path, "Classifier", encoder_words, encoder_texts, **settings)


@pytest.fixture(scope="session")
def text_embedder(encoder_words, encoder_texts, tmp_path_factory) -> Exported:
    """Of rotary positions."""
    path = tmp_path_factory.mktemp("encoders") / "vectors"
    settings = {"position": "rotary", "pooling": "first"}
    return of_texts(path, "Embedder", encoder_words, encoder_texts, **settings)


@pytest.fixture(scope="session")
def image_classifier(tmp_path_factory) -> Exported:
    """A classifier with a convolutional tokenizer and a linear part. Its images are PNG files,
    two in a folder for each label."""
    from tiny_models import CONVOLUTIONS, tiny_encoder

    import tfx_transformer as tfx

    folder = tmp_path_factory.mktemp("encoders")
    random = np.random.default_rng(2)
    files = []
    for label in sorted(NAMES):
        (folder / "images" / label).mkdir(parents=True)
        for number, light in enumerate((0.3, 1.0)):
            pixels = light * random.uniform(0, 256, (*random.integers(7, 30, 2), 3))
            files.append(folder / "images" / label / f"{number}.png")
            Image.fromarray(pixels.astype("uint8")).save(files[-1])
    model = tiny_encoder(
        tfx.Classifier, num_classes=3, **WIDTHS, **CONVOLUTIONS, linear_cells=3, linear_patches=2
    )
    path = folder / "pictures"
    tfx.save(path, model, labels=NAMES, example="bird.png")
    shown = np.stack([resized(file, CONVOLUTIONS["image_size"]) for file in files])
    outputs = np.asarray(model({"images": shown}, training=False))
    return Exported(path, model, None, files, outputs, tfx.export.everything(path, files))


def resized(file, size):
    """An image as the models read it, by TensorFlow."""
    import tensorflow as tf

    pixels = np.asarray(Image.open(file).convert("RGB"))
    return tf.image.resize(pixels, (size, size), antialias=True).numpy()
