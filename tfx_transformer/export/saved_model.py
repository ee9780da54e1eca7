"""A SavedModel that takes texts and returns texts: tokenizer, decode loop and detokenizer are in
its graph, in core TensorFlow operations."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tfx_transformer import bundle
from tfx_transformer.errors import InputError
from tfx_transformer.export.graph_tokenizer import GraphTokenizer
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.models.decoding import generate
from tfx_transformer.models.saving import load


def saved_model(path: str | os.PathLike) -> None:
    """Adds `saved_model/` to a bundle.

    Its signature `serve` takes `texts`, string (batch,), and returns `texts`, string (batch,): the
    greedy answer to each, equal to the Keras model's. Longer texts are cut to what the model reads.
    """
    model, tokenizer = load(path)
    config = model.config
    words = GraphTokenizer(tokenizer)
    options = GenerationOptions(max_new_tokens=config.max_sequence_length)

    def serve(texts):
        ids = words.encode(texts)[:, : config.max_sequence_length - 1]
        ids = tf.concat([ids, tf.fill([tf.shape(texts)[0], 1], config.end_id)], axis=1)
        token_ids = ids.to_tensor(config.padding_id)
        unused = tf.zeros([config.max_sequence_length, tf.shape(texts)[0]])
        return {"texts": words.decode(generate(model, token_ids, unused, options))}

    with bundle.updating(path) as folder:
        shutil.rmtree(folder / bundle.SAVED_MODEL, ignore_errors=True)
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.track(words)
        archive.add_endpoint("serve", serve, [tf.TensorSpec([None], tf.string, name="texts")])
        with contextlib.redirect_stdout(sys.stderr):
            archive.write_out(str(folder / bundle.SAVED_MODEL), verbose=False)


class SavedModelGenerator:
    """Answers texts with the SavedModel of a bundle, as `generation.text.TextGenerator` does.

    Args:
        path: the bundle's folder.
        batch_size: most texts that run together.

    Raises:
        InputError: the bundle holds no SavedModel.
    """

    def __init__(self, path: str | os.PathLike, batch_size: int = 64) -> None:
        folder = Path(path, bundle.SAVED_MODEL)
        if not folder.is_dir():
            raise InputError(
                f"{path} holds no SavedModel.\n"
                f"  Make one: tfx-transformer export {path} --to saved_model"
            )
        self.model = tf.saved_model.load(str(folder))
        self.batch_size = batch_size

    def generate(self, texts: Sequence[str], truncate: bool = True, **options) -> list[str]:
        """The greedy answer to each text; longer texts are cut to what the model reads.

        Raises:
            InputError: `options` ask for anything but greedy decoding.
        """
        if GenerationOptions(**options) != GenerationOptions():
            raise InputError(
                "the SavedModel decodes greedily, to the end.\n"
                "  For beams, sampling and the like use --engine litert or keras."
            )
        answers: list[str] = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.model.serve(tf.constant(texts[start : start + self.batch_size]))
            answers += [text.decode("utf-8") for text in batch["texts"].numpy()]
        return answers
