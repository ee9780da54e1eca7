"""ViT and DeiT: Dosovitskiy et al. (2021), Touvron et al. (2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.family import (
    Family,
    Group,
    Tensor,
    activation,
    layer,
    layers,
    need,
    refuse_other,
    reshape,
    their_activation,
)
from tfx_transformer.models.pretrained.preprocessor import Preprocessing, preprocessor_config

_BLOCK = [
    ("attention_norm", "layernorm_before", "layer_norm"),
    ("attention/query", "attention.attention.query", "linear"),
    ("attention/key", "attention.attention.key", "linear"),
    ("attention/value", "attention.attention.value", "linear"),
    ("attention/output_projection", "attention.output.dense", "linear"),
    ("feed_forward_norm", "layernorm_after", "layer_norm"),
    ("feed_forward/expand", "intermediate.dense", "linear"),
    ("feed_forward/contract", "output.dense", "linear"),
]


def _has_teacher(config: Mapping[str, Any]) -> bool:
    return any(name.endswith("WithTeacher") for name in config.get("architectures") or ())


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(config, num_channels=3, qkv_bias=True)
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    layers, heads, width, inner = need(config, *names)
    image, patch = need(config, "image_size", "patch_size")
    return {
        "vocabulary_size": 0,
        "num_layers": layers,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "image_size": image,
        "patch_size": patch,
        "image_resize": Preprocessing.of(config).resizing,
        "class_tokens": 2 if config["model_type"] == "deit" else 1,
        "pooling": "class_tokens" if _has_teacher(config) else "first",
        "position": "learned",
        "norm_epsilon": config.get("layer_norm_eps", 1e-12),
        "activation": activation(config.get("hidden_act", "gelu")),
        "scale_embedding": False,
        "dropout": config.get("hidden_dropout_prob", 0.0),
    }


def _patches(config: Mapping[str, Any], prefix: str) -> Group:
    """Return the place of the patches' projection. Our colours differ from theirs by factor and
    term of `Preprocessing`, which are merged into kernel and bias."""
    prepared = Preprocessing.of(config)
    factor, term = prepared.factor, prepared.term

    def load(arrays):
        kernel, bias = arrays[0].transpose(2, 3, 1, 0), arrays[1]
        return [kernel * factor, bias + (kernel * term).sum((0, 1, 2))]

    def save(arrays):
        kernel, bias = arrays
        kernel = kernel / factor
        return [kernel.transpose(3, 2, 0, 1), bias - (kernel * term).sum((0, 1, 2))]

    theirs = prefix + "embeddings.patch_embeddings.projection."
    ours = ("embedding/projection/kernel", "embedding/projection/bias")
    return Group(ours, (theirs + "weight", theirs + "bias"), load, save)


def _class_tokens(config: Mapping[str, Any], prefix: str) -> Group:
    names = ["cls_token"] + ["distillation_token"] * (config["model_type"] == "deit")
    return Group(
        ("class_tokens",),
        tuple(f"{prefix}embeddings.{name}" for name in names),
        lambda arrays: [np.concatenate(arrays, axis=1)],
        lambda arrays: np.split(arrays[0], len(names), axis=1),
    )


def _two_heads() -> Group:
    """Return the place of one classifier for the two heads of a distilled DeiT, one for each class
    token: the answer is their mean (Touvron et al. 2021, section 4)."""

    def load(arrays):
        kernel, bias, other_kernel, other_bias = arrays
        return [np.concatenate([kernel.T, other_kernel.T]) / 2, (bias + other_bias) / 2]

    def save(arrays):
        kernel, other_kernel = np.split(arrays[0] * 2, 2)
        return [kernel.T, arrays[1], other_kernel.T, arrays[1]]

    heads = ("cls_classifier", "distillation_classifier")
    theirs = tuple(f"{head}.{name}" for head in heads for name in ("weight", "bias"))
    return Group(("logits/kernel", "logits/bias"), theirs, load, save)


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    prefix = config["model_type"] + "."
    table = [
        _patches(config, prefix),
        _class_tokens(config, prefix),
        reshape("encoder/positions/embeddings", prefix + "embeddings.position_embeddings"),
        *layer("encoder/final_norm", prefix + "layernorm", "layer_norm"),
        *([_two_heads()] if _has_teacher(config) else layer("logits", "classifier", "linear")),
    ]
    for i in range(config["num_hidden_layers"]):
        table += layers(f"encoder/block_{i}/", f"{prefix}encoder.layer.{i}.", _BLOCK)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return {
        "model_type": "vit" if config.class_tokens == 1 else "deit",
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.intermediate_dim,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "qkv_bias": True,
        "hidden_act": their_activation(config.activation),
        "layer_norm_eps": config.norm_epsilon,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "preprocessor": preprocessor_config(config.image_size, config.image_resize),
    }


_TASKS = {
    "ForImageClassification": "classification",
    "ForImageClassificationWithTeacher": "classification",
    "Model": "classification",
}

VIT = Family(
    ("vit",),
    _TASKS,
    _fields,
    _layout,
    _config,
    prefix="vit.",
    heads=("decoder.", "embeddings.mask_token"),
)
DEIT = Family(
    ("deit",),
    _TASKS,
    _fields,
    _layout,
    _config,
    prefix="deit.",
    heads=("decoder.", "embeddings.mask_token"),
)
