"""The answers of MediaPipe's own Python tasks, if the package mediapipe is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import bundle, flags
from tfx_transformer.images import read_image, resize


def probabilities(path: Path, inputs: Sequence[Any]) -> np.ndarray:
    """Return the probabilities of texts or image files by the file of a classifier, float32
    (inputs, classes). Images are scaled to the model's size first, as MediaPipe scales in another
    way."""
    from mediapipe.tasks.python import text, vision  # pyright: ignore[reportMissingImports]

    architecture = bundle.read_config(path)["architecture"]
    if not architecture.get("image_size"):
        with _task(text, "TextClassifier", path) as task:
            return np.stack([_scores(task.classify(item)) for item in inputs])
    with _task(vision, "ImageClassifier", path) as task:
        return np.stack([_scores(task.classify(_image(item, architecture))) for item in inputs])


def vectors(path: Path, inputs: Sequence[str]) -> np.ndarray:
    """Return the vectors of texts by the file of an embedder, float32 (inputs, width)."""
    from mediapipe.tasks.python import text  # pyright: ignore[reportMissingImports]

    with _task(text, "TextEmbedder", path) as task:
        found = [task.embed(item).embeddings[0].embedding for item in inputs]
    return np.array(found, "float32")


def _task(module: Any, name: str, path: Path) -> Any:
    """Return a task of MediaPipe with the file of a bundle."""
    from mediapipe.tasks.python import BaseOptions  # pyright: ignore[reportMissingImports]

    options = getattr(module, f"{name}Options")
    base = BaseOptions(model_asset_path=str(path / bundle.MEDIAPIPE))
    with flags.silence():
        return getattr(module, name).create_from_options(options(base_options=base))


def _image(file: Any, architecture: dict[str, Any]) -> Any:
    from mediapipe import Image, ImageFormat  # pyright: ignore[reportMissingImports]

    size, method = architecture["image_size"], architecture.get("image_resize")
    pixels = np.clip(np.round(resize(read_image(file), size, method)), 0, 255).astype("uint8")
    return Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(pixels))


def _scores(result: Any) -> np.ndarray:
    """Return the scores of a result in the order of the labels."""
    categories = sorted(result.classifications[0].categories, key=lambda one: one.index)
    return np.array([one.score for one in categories], "float32")
