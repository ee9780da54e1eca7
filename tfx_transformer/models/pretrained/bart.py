"""BART, mBART and M2M-100: Lewis et al. (2020), Liu et al. (2020), Fan et al. (2021); NLLB (NLLB
Team 2022) is an M2M-100. They differ in where they normalize and in their positions."""

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
    reshape,
)
from tfx_transformer.models.pretrained.seq2seq import (
    BART_FEED_FORWARD,
    bart_attention,
    bart_config,
)

# Positions are counted from this number on (fairseq).
_FIRST_POSITION = 2


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    kind = config["model_type"]
    names = ("vocab_size", "encoder_layers", "decoder_layers", "d_model", "encoder_ffn_dim")
    vocabulary_size, count, decoder_count, width, inner = need(config, *names)
    heads = config.get("encoder_attention_heads", 16)
    refuse_other(config, decoder_attention_heads=heads, decoder_ffn_dim=inner)
    many = kind == "m2m_100"
    if many:
        refuse_other(config, pad_token_id=_FIRST_POSITION - 1)
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": count,
        "num_decoder_layers": decoder_count,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": config.get("max_position_embeddings", 1024),
        "position": "sinusoidal_fairseq" if many else "learned",
        "norm_first": kind != "bart",
        "norm_epsilon": 1e-5,
        "embedding_norm": not many,
        "activation": activation(config.get("activation_function", "relu" if many else "gelu")),
        "scale_embedding": config.get("scale_embedding", many),
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "logits_bias": not many,
        "dropout": config.get("dropout", 0.1),
    }


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    own = [*bart_attention("attention", "self_attn"), *BART_FEED_FORWARD]
    cross = bart_attention("cross_attention", "encoder_attn")
    table: list[Tensor | Group] = [
        *layer("embedding", "model.shared", "table"),
        Tensor("embedding/reverse_embeddings", "lm_head.weight", "transposed"),
        reshape("logits_bias", "final_logits_bias"),
    ]
    for side, block in (("encoder", own), ("decoder", [*own, *cross])):
        theirs = f"model.{side}."
        table += layer(f"{side}/embedding_norm", theirs + "layernorm_embedding", "layer_norm")
        table += layer(f"{side}/final_norm", theirs + "layer_norm", "layer_norm")
        table.append(positions_from(_FIRST_POSITION, side, theirs + "embed_positions.weight"))
        for i in range(config[f"{side}_layers"]):
            table += layers(f"{side}/block_{i}/", f"{theirs}layers.{i}.", block)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    kind = "mbart" if config.norm_first else "bart"
    return bart_config(config) | {
        "model_type": "m2m_100" if config.position == "sinusoidal_fairseq" else kind,
        "tie_word_embeddings": config.tie_embeddings,
    }


BART = Family(
    model_types=("bart", "mbart", "m2m_100"),
    tasks={"ForConditionalGeneration": "seq2seq", "Model": "seq2seq"},
    fields=_fields,
    layout=_layout,
    to_config=_config,
    prefix="model.",
    optional=("final_logits_bias",),
    only_bases=("mbart", "m2m_100"),
)
