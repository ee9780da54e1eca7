"""Trainings of some seconds, one for each kind of model: what the faults are done to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfx_transformer as tfx

SETTINGS = {"seed": 1, "save_minutes": 0.002}
EPOCHS = 6


def causal(run: tfx.training.Run, extra: Sequence[keras.callbacks.Callback], precision="float32"):
    """A language model with packed blocks, dropout, and previews left out."""
    text = Path(run.folder.parent, "text.txt")
    story = Path(tfx.resources.dataset_path("pretraining.txt")).read_text("utf-8")[:12_000]
    if not text.exists():
        text.write_text(story, "utf-8")
    tokenizer = tfx.Tokenizer.train([story], 300)
    train, held_out = tfx.data.read_corpus(text, tokenizer, run.folder)
    config = tfx.TransformerConfig.of_size(
        "nano",
        tokenizer.vocabulary_size,
        "llama",
        num_layers=1,
        max_sequence_length=16,
        dropout=0.2,
    )
    model = tfx.CausalLM(config, dtype=precision)
    model.compile(tfx.training.adamw(3e-3, 5))
    options = {"length": 16, "batch_size": 8}
    blocks = tfx.training.objective("causal").batches
    batches = blocks(train, tokenizer, **options, seed=1)
    checks = blocks(held_out, tokenizer, **options, shuffle=False)
    run.file, run.files = str(text), [str(text)]
    watch = [*run.callbacks(None, patience=3), *extra]
    run.fit(model, batches, checks, EPOCHS, watch, steps_per_epoch=20)
    return model


def seq2seq(run: tfx.training.Run, extra: Sequence[keras.callbacks.Callback], precision="float32"):
    """A translator."""
    pairs = tfx.data.read_pairs(tfx.resources.dataset_path("en_ja.csv")).take(range(0, 2100, 13))
    train, held_out = tfx.data.split_pairs(pairs, 0.1, 1)
    tokenizer = tfx.Tokenizer.train(train.texts(), 300)
    config = tfx.TransformerConfig.of_size(
        "nano", tokenizer.vocabulary_size, num_layers=1, max_sequence_length=24, dropout=0.2
    )
    model = tfx.Seq2SeqLM(config, dtype=precision)
    model.compile(tfx.training.adamw(3e-3, 5))
    options = {"batch_size": 8, "max_length": 24, "seed": 1}
    batches = tfx.data.pairs(train, tokenizer, **options)
    checks = tfx.data.pairs(held_out, tokenizer, **options, shuffle=False)
    run.file, run.files, run.rows = train.path, [train.path], train.rows
    watch = [*run.callbacks(None, patience=3), *extra]
    run.fit(model, batches, checks, EPOCHS, watch)
    return model


def classifier(
    run: tfx.training.Run, extra: Sequence[keras.callbacks.Callback], precision="float32"
):
    """A classifier of texts that is judged by the moving average of its weights."""
    texts = tfx.data.read_labelled_texts(tfx.resources.dataset_path("labelled_text.csv"))
    train, held_out = tfx.data.split_labelled_texts(texts.take(range(0, len(texts), 9)), 0.2, 1)
    names = tfx.data.label_names(train.labels, train.path)
    tokenizer = tfx.Tokenizer.train(train.flat_texts(), 300)
    config = tfx.TransformerConfig.of_size(
        "nano",
        tokenizer.vocabulary_size,
        num_layers=1,
        max_sequence_length=24,
        num_classes=len(names),
        ngram_buckets=97,
    )
    model = tfx.Classifier(config, dtype=precision)
    model.compile(tfx.training.adamw(3e-3, 5, average=0.9))
    options = {"batch_size": 8, "max_length": 24, "seed": 1}
    batches = tfx.data.labelled_texts(train, tokenizer, names, **options, token_dropout=0.1)
    checks = tfx.data.labelled_texts(held_out, tokenizer, names, **options, shuffle=False)
    run.file, run.files, run.rows = train.path, [train.path], train.rows
    watch = run.watch(tfx.predictor(model, tokenizer, names), held_out, 3, average=True)
    run.fit(model, batches, checks, EPOCHS, [*watch, *extra])
    return model


def images(run: tfx.training.Run, extra: Sequence[keras.callbacks.Callback], precision="float32"):
    """A classifier of images that are changed at random."""
    files = tfx.data.read_labelled_images(tfx.resources.dataset_path("images/train"))
    train, held_out = tfx.data.split_labelled_images(files.take(range(0, len(files), 7)), 0.2, 1)
    names = tfx.data.label_names(train.labels, train.path)
    config = tfx.TransformerConfig.of_size(
        "nano", 0, num_layers=1, image_size=16, conv_layers=1, pooling="attention",
        num_classes=len(names), stochastic_depth=0.1,
    )  # fmt: skip
    model = tfx.Classifier(config, dtype=precision)
    model.compile(tfx.training.adamw(3e-3, 5, average=0.9), label_smoothing=0.1)
    options = {"image_size": 16, "batch_size": 8}
    batches = tfx.data.labelled_images(train, names, **options, seed=1)
    batches = tfx.training.augment_images(batches, 16, seed=1)
    checks = tfx.data.labelled_images(held_out, names, **options, shuffle=False)
    watch = run.watch(tfx.predictor(model, labels=names), held_out, 3, average=True)
    run.fit(model, batches, checks, EPOCHS, [*watch, *extra])
    return model


KINDS: dict[str, Callable] = {
    "causal": causal, "seq2seq": seq2seq, "classifier": classifier, "images": images,
}  # fmt: skip


def train(
    kind: str,
    folder: Path,
    extra: Sequence[keras.callbacks.Callback] = (),
    precision: str = "float32",
    **settings: Any,
) -> dict[str, Any]:
    """Trains, or goes on; leaves `result.json` in the folder and returns what is in it: a digest of
    the weights, and the history."""
    tfx.training.set_random_seed(1)
    record = tfx.training.ClassifierRun if kind in ("classifier", "images") else tfx.training.Run
    run = record("run", SETTINGS | settings, root=str(folder))
    model = KINDS[kind](run, extra, precision)
    digest = hashlib.sha256()
    for weight in model.trainable_variables:
        digest.update(np.asarray(weight.value).tobytes())
    result = {"weights": digest.hexdigest(), "history": model.history.history}
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    return run.close(result)
