"""OPT: Zhang et al. (2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.family import (
    Family,
    Group,
    Tensor,
    activation,
    layer,
    layers,
    need,
    positions_from,
    refuse_other,
    their_activation,
)
from tfx_transformer.models.pretrained.llama import DECODER_TASKS

_BLOCK = [
    ("attention_norm", "self_attn_layer_norm", "layer_norm"),
    ("attention/query", "self_attn.q_proj", "linear"),
    ("attention/key", "self_attn.k_proj", "linear"),
    ("attention/value", "self_attn.v_proj", "linear"),
    ("attention/output_projection", "self_attn.out_proj", "linear"),
    ("feed_forward_norm", "final_layer_norm", "layer_norm"),
    ("feed_forward/expand", "fc1", "linear"),
    ("feed_forward/contract", "fc2", "linear"),
]
# The first two rows of the table of positions are not used (fairseq).
_FIRST_POSITION = 2


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    names = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size")
    vocabulary_size, count, heads, width = need(config, *names)
    inner, longest = need(config, "ffn_dim", "max_position_embeddings")
    # Only OPT 350m differs in the first two.
    refuse_other(config, do_layer_norm_before=True, word_embed_proj_dim=width)
    refuse_other(config, _remove_final_layer_norm=False, enable_bias=True)
    refuse_other(config, layer_norm_elementwise_affine=True)
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": count,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": longest,
        "position": "learned",
        "norm_epsilon": 1e-5,
        "activation": activation(config.get("activation_function", "relu")),
        "scale_embedding": False,
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "dropout": config.get("dropout", 0.1),
    }


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    theirs = "model.decoder."
    table: list[Tensor | Group] = [
        *layer("embedding", theirs + "embed_tokens", "table"),
        Tensor("embedding/reverse_embeddings", "lm_head.weight", "transposed"),
        positions_from(_FIRST_POSITION, "decoder", theirs + "embed_positions.weight"),
        *layer("decoder/final_norm", theirs + "final_layer_norm", "layer_norm"),
    ]
    for i in range(config["num_hidden_layers"]):
        table += layers(f"decoder/block_{i}/", f"{theirs}layers.{i}.", _BLOCK)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "vocab_size": config.vocabulary_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_size": config.hidden_dim,
        "word_embed_proj_dim": config.hidden_dim,
        "ffn_dim": config.intermediate_dim,
        "max_position_embeddings": config.max_sequence_length,
        "activation_function": their_activation(config.activation),
        "do_layer_norm_before": True,
        "tie_word_embeddings": config.tie_embeddings,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "pad_token_id": config.padding_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
    }


OPT = Family(
    model_types=("opt",),
    tasks=DECODER_TASKS,
    fields=_fields,
    layout=_layout,
    to_config=_config,
    prefix="model.",
)
