"""ELECTRA: Clark et al. (2020), a BERT whose embedding table may be narrower than its blocks.

The generator predicts masked tokens. The discriminator, the one to fine-tune, has a head that
detects replaced tokens, and is read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.bert import (
    BERT_BLOCK,
    ENCODER_TASKS,
    LOGITS,
    classifier_fields,
    encoder_config,
    encoder_fields,
    exact_gelu_head,
)
from tfx_transformer.models.pretrained.family import Family, Tensor, layer, layers


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    return encoder_fields(config, task) | {
        "num_segments": config.get("type_vocab_size", 2),
        "embedding_dim": config.get("embedding_size", 128),
    }


def _classifier_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    return classifier_fields(config) | {"pooler_activation": "gelu"}


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor]:
    table = [
        *layer("embedding", "electra.embeddings.word_embeddings", "table"),
        *layer("segments", "electra.embeddings.token_type_embeddings", "table"),
        *layer("encoder/positions", "electra.embeddings.position_embeddings", "table"),
        *layer("encoder/embedding_norm", "electra.embeddings.LayerNorm", "layer_norm"),
        *layer("encoder/embedding_projection", "electra.embeddings_project", "linear"),
        *layer("transform", "generator_predictions.dense", "linear"),
        *layer("transform_norm", "generator_predictions.LayerNorm", "layer_norm"),
        Tensor("embedding/reverse_embeddings", "generator_lm_head.weight", "transposed"),
        Tensor("bias", "generator_lm_head.bias"),
        *layer("pooler", "classifier.dense", "linear"),
        *layer("logits", LOGITS.get(task, "classifier.out_proj"), "linear"),
    ]
    for i in range(config["num_hidden_layers"]):
        table += layers(f"encoder/block_{i}/", f"electra.encoder.layer.{i}.", BERT_BLOCK)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return encoder_config(config, task) | {
        "model_type": "electra",
        "embedding_size": config.embedding_dim,
        "max_position_embeddings": config.max_sequence_length,
        "type_vocab_size": config.num_segments,
    }


ELECTRA = Family(
    model_types=("electra",),
    tasks=ENCODER_TASKS | {"ForPreTraining": "embedding"},
    fields=_fields,
    layout=_layout,
    to_config=_config,
    for_task={"masked": exact_gelu_head, "classification": _classifier_fields},
    prefix="electra.",
    heads=("generator_", "discriminator_predictions."),
)
