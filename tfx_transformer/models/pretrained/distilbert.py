"""DistilBERT: Sanh et al. (2019), a BERT without segments and pooler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.bert import ENCODER_TASKS
from tfx_transformer.models.pretrained.family import (
    Family,
    Tensor,
    activation,
    layer,
    layers,
    need,
    their_activation,
)

_BLOCK = [
    ("attention/query", "attention.q_lin", "linear"),
    ("attention/key", "attention.k_lin", "linear"),
    ("attention/value", "attention.v_lin", "linear"),
    ("attention/output_projection", "attention.out_lin", "linear"),
    ("attention_norm", "sa_layer_norm", "layer_norm"),
    ("feed_forward/expand", "ffn.lin1", "linear"),
    ("feed_forward/contract", "ffn.lin2", "linear"),
    ("feed_forward_norm", "output_layer_norm", "layer_norm"),
]
_EPSILON = 1e-12


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    names = ("vocab_size", "n_layers", "n_heads", "dim", "hidden_dim", "max_position_embeddings")
    vocabulary_size, layers, heads, width, inner, longest = need(config, *names)
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": layers,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": longest,
        "position": "learned",
        "norm_first": False,
        "embedding_norm": True,
        "norm_epsilon": _EPSILON,
        "activation": activation(config.get("activation", "gelu")),
        "scale_embedding": False,
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "dropout": config.get("dropout", 0.1),
        "padding_id": config.get("pad_token_id", 0),
    }


def _classifier_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"pooling": "first", "pooler": True, "pooler_activation": "relu"}


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor]:
    table = [
        *layer("embedding", "distilbert.embeddings.word_embeddings", "table"),
        *layer("encoder/positions", "distilbert.embeddings.position_embeddings", "table"),
        *layer("encoder/embedding_norm", "distilbert.embeddings.LayerNorm", "layer_norm"),
        *layer("transform", "vocab_transform", "linear"),
        *layer("transform_norm", "vocab_layer_norm", "layer_norm"),
        Tensor("embedding/reverse_embeddings", "vocab_projector.weight", "transposed"),
        Tensor("bias", "vocab_projector.bias"),
        *layer("pooler", "pre_classifier", "linear"),
        *layer("logits", "classifier", "linear"),
    ]
    for i in range(config["n_layers"]):
        table += layers(f"encoder/block_{i}/", f"distilbert.transformer.layer.{i}.", _BLOCK)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return {
        "model_type": "distilbert",
        "vocab_size": config.vocabulary_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "dim": config.hidden_dim,
        "hidden_dim": config.intermediate_dim,
        "max_position_embeddings": config.max_sequence_length,
        "activation": their_activation(config.activation),
        "tie_word_embeddings": config.tie_embeddings,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "pad_token_id": config.padding_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
    }


DISTILBERT = Family(
    model_types=("distilbert",),
    tasks=ENCODER_TASKS,
    fields=_fields,
    layout=_layout,
    to_config=_config,
    for_task={"classification": _classifier_fields},
    prefix="distilbert.",
    heads=("vocab_",),
)
