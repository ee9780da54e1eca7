"""The parts that `by_ctranslate2`, `by_llama_cpp` and `by_onnxruntime` share.

Each runs Hugging Face's model of the same shape with random weights, converted once; the files are
kept in the folder `work` of the settings. A step writes as many tokens as those of our engines.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import shapes
from benchmarks.tables import Settings

Step = Callable[[], int]


def pretrained_folder(settings: Settings, name: str, new_model: Callable[[], Any]) -> Path:
    """The folder of a model of Hugging Face, written once."""
    folder = shapes.work_file(settings, name)
    if not (folder / "model.safetensors").exists():  # which is written last
        shapes.torch_with(settings["threads"])
        new_model().save_pretrained(folder)
    return folder


def counted(write: Callable[[], np.ndarray], shape: tuple[int, int]) -> Step:
    """The step that writes ids of this shape."""

    def step() -> int:
        assert write().shape == shape
        return shape[0] * shape[1]

    return step
