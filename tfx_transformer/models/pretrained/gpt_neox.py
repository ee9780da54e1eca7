"""GPT-NeoX: Black et al. (2022); Pythia (Biderman et al. 2023) is one."""

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
from tfx_transformer.models.pretrained.llama import (
    DECODER_TASKS,
    partial_rotary_factor,
    rope_parameters,
    rotary_fields,
)

_BLOCK = [
    ("attention_norm", "input_layernorm", "layer_norm"),
    ("attention/output_projection", "attention.dense", "linear"),
    ("feed_forward_norm", "post_attention_layernorm", "layer_norm"),
    ("feed_forward/expand", "mlp.dense_h_to_4h", "linear"),
    ("feed_forward/contract", "mlp.dense_4h_to_h", "linear"),
]


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    names = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size")
    vocabulary_size, count, heads, width = need(config, *names)
    inner, longest = need(config, "intermediate_size", "max_position_embeddings")
    refuse_other(config, attention_bias=True)
    values = rope_parameters(config)
    values["rope_theta"] = values["rope_theta"] or config.get("rotary_emb_base")
    share = values.pop("partial_rotary_factor", config.get("rotary_pct", 0.25))
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": count,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": longest,
        "position": "rotary",
        "rotary_dim": int(width // heads * share),
        "norm_epsilon": config.get("layer_norm_eps", 1e-5),
        "activation": activation(config.get("hidden_act", "gelu")),
        "parallel_residual": config.get("use_parallel_residual", True),
        "scale_embedding": False,
        "tie_embeddings": config.get("tie_word_embeddings", False),
        "dropout": config.get("hidden_dropout", 0.0),
        **rotary_fields(values),
    }


def _fuse(ours: str, theirs: str, variable: str, heads: int) -> Group:
    """Return the place of queries, keys and values: in one tensor, those of a head one below the
    other, then those of the next head."""
    parts = ("query", "key", "value")
    name = {"kernel": "weight", "bias": "bias"}[variable]

    def load(arrays):
        by_head = arrays[0].reshape(heads, 3, -1, *arrays[0].shape[1:])
        return [by_head[:, i].reshape(-1, *arrays[0].shape[1:]).T for i in range(3)]

    def save(arrays):
        rows = [array.T.reshape(heads, -1, *array.T.shape[1:]) for array in arrays]
        return [np.stack(rows, axis=1).reshape(-1, *arrays[0].T.shape[1:])]

    return Group(
        tuple(f"{ours}attention/{part}/{variable}" for part in parts),
        (f"{theirs}attention.query_key_value.{name}",),
        load,
        save,
    )


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    heads = config["num_attention_heads"]
    table: list[Tensor | Group] = [
        *layer("embedding", "gpt_neox.embed_in", "table"),
        Tensor("embedding/reverse_embeddings", "embed_out.weight", "transposed"),
        *layer("decoder/final_norm", "gpt_neox.final_layer_norm", "layer_norm"),
    ]
    for i in range(config["num_hidden_layers"]):
        names = (f"decoder/block_{i}/", f"gpt_neox.layers.{i}.")
        table += layers(*names, _BLOCK)
        table += [_fuse(*names, variable, heads) for variable in ("kernel", "bias")]
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    share = partial_rotary_factor(config)
    rope = {
        "rope_theta": config.rope_theta,
        "rope_type": "default",
        "partial_rotary_factor": share,
    }
    return {
        "model_type": "gpt_neox",
        "vocab_size": config.vocabulary_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.intermediate_dim,
        "max_position_embeddings": config.max_sequence_length,
        "hidden_act": their_activation(config.activation),
        "layer_norm_eps": config.norm_epsilon,
        "use_parallel_residual": config.parallel_residual,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_dropout": config.dropout,
        "attention_dropout": config.dropout,
        # In the forms of transformers 4 and 5.
        "rotary_pct": share,
        "rotary_emb_base": config.rope_theta,
        "rope_parameters": rope | (config.rope_scaling or {}),
        "pad_token_id": config.padding_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
    }


GPT_NEOX = Family(
    model_types=("gpt_neox",),
    tasks=DECODER_TASKS,
    fields=_fields,
    layout=_layout,
    to_config=_config,
    prefix="gpt_neox.",
    # The name of release 5 in memory; files have the other name.
    renamed=(("lm_head.", "embed_out."),),
)
