"""GPT-2: Radford et al. (2019)."""

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
    their_activation,
)

_BLOCK = [
    ("attention_norm", "ln_1", "layer_norm"),
    ("attention/output_projection", "attn.c_proj", "conv1d"),
    ("feed_forward_norm", "ln_2", "layer_norm"),
    ("feed_forward/expand", "mlp.c_fc", "conv1d"),
    ("feed_forward/contract", "mlp.c_proj", "conv1d"),
]


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(config, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False)
    refuse_other(config, add_cross_attention=False)
    names = ("vocab_size", "n_layer", "n_head", "n_embd", "n_positions")
    vocabulary_size, layers, heads, width, longest = need(config, *names)
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": layers,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": config.get("n_inner") or 4 * width,
        "max_sequence_length": longest,
        "position": "learned",
        "norm_epsilon": config.get("layer_norm_epsilon", 1e-5),
        "activation": activation(config.get("activation_function", "gelu_new")),
        "scale_embedding": False,
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "dropout": config.get("resid_pdrop", 0.1),
    }


def _fuse(ours: str, theirs: str, variable: str, name: str) -> Group:
    """Return the place of queries, keys and values, which are side by side in one tensor."""
    parts = ("query", "key", "value")
    return Group(
        tuple(f"{ours}attention/{part}/{variable}" for part in parts),
        (f"{theirs}attn.c_attn.{name}",),
        lambda arrays: np.split(arrays[0], 3, axis=-1),
        lambda arrays: [np.concatenate(arrays, axis=-1)],
    )


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    table = [
        *layer("embedding", "transformer.wte", "table"),
        Tensor("embedding/reverse_embeddings", "lm_head.weight", "transposed"),
        *layer("decoder/positions", "transformer.wpe", "table"),
        *layer("decoder/final_norm", "transformer.ln_f", "layer_norm"),
    ]
    for i in range(config["n_layer"]):
        names = (f"decoder/block_{i}/", f"transformer.h.{i}.")
        table += [
            *layers(*names, _BLOCK),
            _fuse(*names, "kernel", "weight"),
            _fuse(*names, "bias", "bias"),
        ]
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "vocab_size": config.vocabulary_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_embd": config.hidden_dim,
        "n_inner": config.intermediate_dim,
        "n_positions": config.max_sequence_length,
        "activation_function": their_activation(config.activation),
        "layer_norm_epsilon": config.norm_epsilon,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "pad_token_id": config.padding_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
    }


GPT2 = Family(
    model_types=("gpt2",),
    tasks={"LMHeadModel": "causal", "Model": "causal"},
    fields=_fields,
    layout=_layout,
    to_config=_config,
    prefix="transformer.",
)
