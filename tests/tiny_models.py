"""Models small enough for tests, with weights at random so that no output is trivial."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.encoders import EncoderModel
from tfx_transformer.models.tasks import CausalLM, LanguageModel, Seq2SeqLM

# Settings in which models differ; sizes are prime, or differ, so that swapped axes show.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "vaswani": {"norm_first": False, "activation": "relu"},
    "learned": {"position": "learned", "scale_embedding": False},
    "rotary": {"position": "rotary", "rope_theta": 100.0},
    "rms_post_norm": {"norm": "rms_norm", "norm_first": False},
    "gated": {"gated": True, "activation": "silu", "use_bias": False},
    "grouped": {"num_key_value_heads": 2},
    "one_key_value_head": {"num_key_value_heads": 1, "position": "rotary"},
    "untied": {"tie_embeddings": False},
    "shallow_decoder": {"num_decoder_layers": 1},
    "llama": {
        "position": "rotary",
        "norm": "rms_norm",
        "gated": True,
        "activation": "silu",
        "use_bias": False,
        "num_key_value_heads": 3,
        "tie_embeddings": False,
    },
}


def tiny_config(**settings: Any) -> TransformerConfig:
    """Two layers, six heads of width 4, 23 tokens, at most 19 at once; no dropout."""
    defaults = {
        "vocabulary_size": 23,
        "num_layers": 2,
        "num_heads": 6,
        "hidden_dim": 24,
        "intermediate_dim": 13,
        "dropout": 0.0,
        "max_sequence_length": 19,
    }
    return TransformerConfig(**{**defaults, **settings})


def perturbed(model: LanguageModel, scale: float = 0.2, seed: int = 0) -> LanguageModel:
    """The model, its trainable weights moved by normal noise."""
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        # Keras adds in several operations, which take as long as making the model.
        weight.assign(np.asarray(weight.value) + scale * random.normal(size=weight.shape))
    return model


def tiny_model(scale: float = 0.2, seed: int = 0, **settings: Any) -> Seq2SeqLM:
    """The same weights for the same arguments, whatever ran before."""
    keras.utils.set_random_seed(seed)
    return perturbed(Seq2SeqLM(tiny_config(**settings)), scale, seed)


def tiny_causal(scale: float = 0.2, seed: int = 0, dtype: Any = None, **settings: Any) -> CausalLM:
    """As `tiny_model`, decoder-only."""
    keras.utils.set_random_seed(seed)
    return perturbed(CausalLM(tiny_config(**settings), dtype=dtype), scale, seed)


def with_linear(model: Any, seed: int = 0) -> Any:
    """The classifier, the tables of its linear part filled at random."""
    random = np.random.default_rng(seed)
    if model.config.image_size:
        model.linear.kernel.assign(0.3 * random.normal(size=model.linear.kernel.shape))
        if model.linear.patches:
            model.linear.filters.assign(random.normal(size=model.linear.filters.shape))
        return model
    for table in (model.linear.rarity, model.linear.kernel):
        table.embeddings.assign(random.random(table.embeddings.shape))
    return model


# What an encoder of images is made with instead of a vocabulary.
PATCHES: dict[str, Any] = {"vocabulary_size": 0, "image_size": 15, "patch_size": 5}
CONVOLUTIONS: dict[str, Any] = {
    "vocabulary_size": 0,
    "image_size": 11,
    "conv_layers": 2,
    "pooling": "attention",
}


def tiny_encoder(
    task: type[EncoderModel], scale: float = 0.2, seed: int = 0, **settings: Any
) -> EncoderModel:
    """As `tiny_model`: a `MaskedLM`, `Classifier` or `Embedder`."""
    keras.utils.set_random_seed(seed)
    model = perturbed(task(tiny_config(**settings)), scale, seed)
    return with_linear(model) if model.config.linear_cells else model
