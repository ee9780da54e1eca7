"""MPNet: Song et al. (2020), a BERT without segments, with relative position scores."""

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
from tfx_transformer.models.pretrained.family import (
    Family,
    Group,
    Tensor,
    layer,
    layers,
    positions_from,
    refuse_other,
)

_BLOCK = [
    ("attention/query", "attention.attn.q", "linear"),
    ("attention/key", "attention.attn.k", "linear"),
    ("attention/value", "attention.attn.v", "linear"),
    ("attention/output_projection", "attention.attn.o", "linear"),
    ("attention_norm", "attention.LayerNorm", "layer_norm"),
    *[row for row in BERT_BLOCK if row[0].startswith("feed_forward")],
]
# Positions are counted from this number on, whatever the padding id is (fairseq).
_FIRST_POSITION = 2


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(config, relative_attention_num_buckets=32)
    fields = encoder_fields(config, task) | {
        "relative_scores": True,
        "relative_buckets": 32,
        "relative_distance": 128,
        "padding_id": config.get("pad_token_id", 1),
    }
    fields["max_sequence_length"] -= _FIRST_POSITION
    return fields


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    positions = "mpnet.embeddings.position_embeddings.weight"
    table = [
        *layer("embedding", "mpnet.embeddings.word_embeddings", "table"),
        positions_from(_FIRST_POSITION, "encoder", positions),
        *layer("encoder/embedding_norm", "mpnet.embeddings.LayerNorm", "layer_norm"),
        *layer("encoder/distances", "mpnet.encoder.relative_attention_bias", "table"),
        *layer("transform", "lm_head.dense", "linear"),
        *layer("transform_norm", "lm_head.layer_norm", "layer_norm"),
        Tensor("embedding/reverse_embeddings", "lm_head.decoder.weight", "transposed"),
        Tensor("bias", "lm_head.bias"),
        *layer("pooler", "classifier.dense", "linear"),
        *layer("logits", LOGITS.get(task, "classifier.out_proj"), "linear"),
    ]
    for i in range(config["num_hidden_layers"]):
        table += layers(f"encoder/block_{i}/", f"mpnet.encoder.layer.{i}.", _BLOCK)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return encoder_config(config, task) | {
        "model_type": "mpnet",
        "max_position_embeddings": config.max_sequence_length + _FIRST_POSITION,
        "relative_attention_num_buckets": 32,
    }


MPNET = Family(
    model_types=("mpnet",),
    tasks=ENCODER_TASKS,
    fields=_fields,
    layout=_layout,
    to_config=_config,
    for_task={"masked": exact_gelu_head, "classification": classifier_fields},
    prefix="mpnet.",
    heads=("mpnet.pooler.",),
    same={"lm_head.decoder.bias": "lm_head.bias"},
)
