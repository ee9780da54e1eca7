"""BERT and RoBERTa: Devlin et al. (2019), Liu et al. (2019); MiniLM is a small BERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.family import (
    Family,
    Group,
    Tensor,
    activation,
    layer,
    layers,
    need,
    refuse_other,
    their_activation,
)

BERT_BLOCK = [
    ("attention/query", "attention.self.query", "linear"),
    ("attention/key", "attention.self.key", "linear"),
    ("attention/value", "attention.self.value", "linear"),
    ("attention/output_projection", "attention.output.dense", "linear"),
    ("attention_norm", "attention.output.LayerNorm", "layer_norm"),
    ("feed_forward/expand", "intermediate.dense", "linear"),
    ("feed_forward/contract", "output.dense", "linear"),
    ("feed_forward_norm", "output.LayerNorm", "layer_norm"),
]


# Read-outs of tasks that have no projection before their classes.
LOGITS = {"tagging": "classifier"}


def encoder_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(
        config, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False
    )
    names = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size")
    vocabulary_size, layers, heads, width = need(config, *names)
    inner, longest = need(config, "intermediate_size", "max_position_embeddings")
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
        "norm_epsilon": config.get("layer_norm_eps", 1e-12),
        "activation": activation(config.get("hidden_act", "gelu")),
        "scale_embedding": False,
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "padding_id": config.get("pad_token_id", 0),
    }


def exact_gelu_head(config: Mapping[str, Any]) -> dict[str, Any]:
    """Raise if the activation is not the exact GELU, which the masked-token head of some families
    always has; return {}."""
    refuse_other(config, hidden_act="gelu")
    return {}


def classifier_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a classifier's head."""
    return {"pooling": "first", "pooler": True}


def _bert_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    segments = config.get("type_vocab_size", 2)
    if not segments:
        raise InputError("config.json: type_vocab_size is 0.\n  A BERT has one segment or more.")
    return encoder_fields(config, task) | {"num_segments": segments}


def _roberta_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(config, type_vocab_size=1)
    fields = encoder_fields(config, task)
    fields["max_sequence_length"] -= _first_position(config)
    return fields


def _first_position(config: Mapping[str, Any]) -> int:
    """Return the first position: the one after the padding id (Ott et al. 2019, fairseq)."""
    return config.get("pad_token_id", 1) + 1


def _encoder(config: Mapping[str, Any], prefix: str) -> list[Tensor]:
    table = [
        *layer("embedding", prefix + "embeddings.word_embeddings", "table"),
        *layer("encoder/embedding_norm", prefix + "embeddings.LayerNorm", "layer_norm"),
    ]
    for i in range(config["num_hidden_layers"]):
        table += layers(f"encoder/block_{i}/", f"{prefix}encoder.layer.{i}.", BERT_BLOCK)
    return table


def _bert_layout(config: Mapping[str, Any], task: str) -> list[Tensor]:
    return [
        *_encoder(config, "bert."),
        *layer("segments", "bert.embeddings.token_type_embeddings", "table"),
        *layer("encoder/positions", "bert.embeddings.position_embeddings", "table"),
        *layer("transform", "cls.predictions.transform.dense", "linear"),
        *layer("transform_norm", "cls.predictions.transform.LayerNorm", "layer_norm"),
        Tensor("embedding/reverse_embeddings", "cls.predictions.decoder.weight", "transposed"),
        Tensor("bias", "cls.predictions.bias"),
        *layer("pooler", "bert.pooler.dense", "linear"),
        *layer("logits", "classifier", "linear"),
    ]


def _roberta_layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    first = _first_position(config)
    # There is a single segment: its vector is added to that of every position.
    positions = Group(
        ("encoder/positions/embeddings",),
        (
            "roberta.embeddings.position_embeddings.weight",
            "roberta.embeddings.token_type_embeddings.weight",
        ),
        lambda arrays: [arrays[0][first:] + arrays[1]],
        lambda arrays: [np.pad(arrays[0], [(first, 0), (0, 0)]), np.zeros_like(arrays[0][:1])],
    )
    return [
        *_encoder(config, "roberta."),
        positions,
        *layer("transform", "lm_head.dense", "linear"),
        *layer("transform_norm", "lm_head.layer_norm", "layer_norm"),
        Tensor("embedding/reverse_embeddings", "lm_head.decoder.weight", "transposed"),
        Tensor("bias", "lm_head.bias"),
        *layer("pooler", "classifier.dense", "linear"),
        *layer("logits", LOGITS.get(task, "classifier.out_proj"), "linear"),
    ]


def encoder_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return {
        "vocab_size": config.vocabulary_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.intermediate_dim,
        "hidden_act": their_activation(config.activation),
        "layer_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "pad_token_id": config.padding_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
    }


def _bert_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return encoder_config(config, task) | {
        "model_type": "bert",
        "max_position_embeddings": config.max_sequence_length,
        "type_vocab_size": config.num_segments,
    }


def _roberta_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    values = encoder_config(config, task) | {"model_type": "roberta", "type_vocab_size": 1}
    longest = config.max_sequence_length + _first_position(values)
    return values | {"max_position_embeddings": longest}


# Endings of transformers' names for encoders -> task.
ENCODER_TASKS = {
    "ForMaskedLM": "masked",
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "tagging",
    "Model": "embedding",
}

BERT = Family(
    model_types=("bert",),
    tasks=ENCODER_TASKS | {"ForPreTraining": "masked"},
    fields=_bert_fields,
    layout=_bert_layout,
    to_config=_bert_config,
    for_task={"classification": classifier_fields},
    prefix="bert.",
    heads=("bert.pooler.",),
    same={"cls.predictions.decoder.bias": "cls.predictions.bias"},
)

ROBERTA = Family(
    model_types=("roberta", "xlm-roberta", "camembert"),
    tasks=ENCODER_TASKS,
    fields=_roberta_fields,
    layout=_roberta_layout,
    to_config=_roberta_config,
    for_task={"classification": classifier_fields},
    prefix="roberta.",
    heads=("roberta.pooler.",),
    same={"lm_head.decoder.bias": "lm_head.bias"},
)
