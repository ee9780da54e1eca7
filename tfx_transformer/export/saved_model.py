"""A SavedModel that takes texts and returns texts: tokenizer, decode loop and detokenizer are in
its graph, in core TensorFlow operations."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys

import keras
import tensorflow as tf

from tfx_transformer import bundle
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
