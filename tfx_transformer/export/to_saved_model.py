"""SavedModels that take texts and return texts: tokenizer, decode loop and detokenizer are in the
graph, in core TensorFlow operations."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import keras

from tfx_transformer import bundle
from tfx_transformer.export import saved_model_file
from tfx_transformer.export.tasks import task_of
from tfx_transformer.export.tensorflow_process import on_tensorflow
from tfx_transformer.models.saving import load


@on_tensorflow
def saved_model(path: str | os.PathLike) -> None:
    """Add `saved_model/` to a bundle.

    Its signature `serve` takes `texts`, string (batch,), and returns `texts`, string (batch,): the
    greedy answers, equal to the Keras model's. Longer texts are cut to the model's maximum. For
    classifiers, regressors, embedders and taggers see `serving`; a SavedModel of images does not
    read their Exif orientation. If a checkpoint's tokenizer cannot run in a graph, inputs and
    outputs are token ids: see `generator_serving`.
    """
    model, tokenizer = load(path)
    with bundle.updating(path) as folder:
        write_saved_model(folder, model, tokenizer)


def write_saved_model(folder: Path, model, tokenizer) -> None:
    """Write `saved_model/` into the folder of a bundle, whose model and tokenizer are loaded."""
    serving = task_of(model).serving
    parts, serve, specs = serving(model, tokenizer, bundle.read_config(folder))
    shutil.rmtree(folder / bundle.SAVED_MODEL, ignore_errors=True)
    archive: Any = keras.export.ExportArchive()
    for part in (model, *parts):
        archive.track(part)
    saved_model_file.add_endpoint(archive, "serve", serve, specs)
    saved_model_file.write(archive, folder / bundle.SAVED_MODEL)
    saved_model_file.check(folder / bundle.SAVED_MODEL)
