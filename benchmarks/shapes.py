"""Shapes and models that several tables share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.tables import Settings

SPECIAL = 3  # ids of padding, start and end, which no random text has


@dataclasses.dataclass(frozen=True)
class GPT:
    """A shape of GPT-2's architecture."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    positions: int

    @property
    def weights(self) -> int:
        """Those that a token is multiplied with: of the blocks and of the output."""
        return 12 * self.layers * self.width**2 + self.vocabulary * self.width

    def config(self):
        """Our configuration of it."""
        from tfx_transformer import TransformerConfig

        return TransformerConfig.of_size(
            "tiny",
            self.vocabulary,
            "gpt2",
            num_layers=self.layers,
            num_heads=self.heads,
            hidden_dim=self.width,
            dropout=0.0,
            max_sequence_length=self.positions,
        )

    def keras_hub_backbone(self):
        import keras_hub

        return keras_hub.models.GPT2Backbone(
            vocabulary_size=self.vocabulary,
            num_layers=self.layers,
            num_heads=self.heads,
            hidden_dim=self.width,
            intermediate_dim=4 * self.width,
            dropout=0.0,
            max_sequence_length=self.positions,
        )

    def transformers_model(self):
        """Hugging Face's, on PyTorch, with random weights."""
        import transformers

        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=self.vocabulary,
                n_positions=self.positions,
                n_embd=self.width,
                n_layer=self.layers,
                n_head=self.heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=0,
                eos_token_id=0,
            )
        )


NANO = GPT(layers=4, width=128, heads=4, vocabulary=65, positions=64)
SMALL = GPT(layers=6, width=384, heads=6, vocabulary=8192, positions=256)
GPT2_SMALL = GPT(layers=12, width=768, heads=12, vocabulary=50_257, positions=1024)
SMALL_LONG = dataclasses.replace(SMALL, positions=1024)
GPTS = {"nano": NANO, "small": SMALL, "small-long": SMALL_LONG, "gpt2-small": GPT2_SMALL}


def random_ids(rows: int, length: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    """Ids without special ones: int32 (rows, length)."""
    numbers = np.random.default_rng(seed)
    return numbers.integers(SPECIAL, vocabulary, (rows, length), dtype="int32")


def never_special(model, factor: float) -> None:
    """Make the special ids improbable, so that no text ends early.

    Their rows in the tied table are multiplied by a small factor: logits near 0, far below the
    best of thousands of others.
    """
    table = model.embedding.embeddings.numpy()
    table[:SPECIAL] *= factor
    model.embedding.embeddings.assign(table)


def work_file(settings: Settings, name: str) -> Path:
    """A file that is kept between runs; its folder exists."""
    path = Path(settings["work"], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def torch_with(threads: int):
    """PyTorch with a number of threads and a fixed seed."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return torch


def repeated(features, labels):
    """One batch for ever, as a `tf.data.Dataset`.

    At the end of `fit` TensorFlow may wait seconds for tf.data's autotune thread: it is off.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensors((features, labels)).repeat().with_options(options)
