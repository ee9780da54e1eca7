"""T5, mT5 and Marian: Raffel et al. (2020), Xue et al. (2021), Junczys-Dowmunt et al. (2018)."""

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

# The logit of a token that is never written.
_NEVER = -1e4


def _t5_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    names = ("vocab_size", "num_layers", "num_heads", "d_model", "d_kv", "d_ff")
    vocabulary_size, layers, heads, width, head, inner = need(config, *names)
    gated, name = _feed_forward(config)
    many = config["model_type"] == "mt5"
    # mT5 never scales; its read-out is tied if it has no numbers of its own.
    tied = many or config.get("tie_word_embeddings", True)
    scaled = config.get("scale_decoder_outputs", tied) and not many
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": layers,
        "num_decoder_layers": config.get("num_decoder_layers") or layers,
        "num_heads": heads,
        "head_dim": head,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": config.get("n_positions") or 512,
        "position": "relative",
        "relative_buckets": config.get("relative_attention_num_buckets", 32),
        "relative_distance": config.get("relative_attention_max_distance", 128),
        "attention_scale": 1.0,
        "norm": "rms_norm",
        "norm_epsilon": config.get("layer_norm_epsilon", 1e-6),
        # In T5 1.1 "gated-gelu" is the approximation.
        "activation": "gelu_tanh" if gated and name == "gelu" else activation(name),
        "gated": gated,
        "use_bias": False,
        "scale_embedding": False,
        "tie_embeddings": tied,
        "logit_scale": width**-0.5 if scaled else 1.0,
        "dropout": config.get("dropout_rate", 0.1),
    }


def _feed_forward(config: Mapping[str, Any]) -> tuple[bool, str]:
    """Return True if the feed-forward layer is gated, and its activation."""
    usual = "gated-gelu" if config["model_type"] == "mt5" else "relu"
    name = str(config.get("feed_forward_proj", usual))
    return name.startswith("gated-"), name.removeprefix("gated-")


def _t5_attention(ours: str, theirs: str) -> list[tuple]:
    return [
        (f"{ours}/query", f"{theirs}.q", "linear"),
        (f"{ours}/key", f"{theirs}.k", "linear"),
        (f"{ours}/value", f"{theirs}.v", "linear"),
        (f"{ours}/output_projection", f"{theirs}.o", "linear"),
    ]


def _t5_feed_forward(layer: int, gated: bool) -> list[tuple]:
    dense = f"layer.{layer}.DenseReluDense."
    first = [("feed_forward/expand", dense + "wi", "linear")]
    if gated:
        first = [
            ("feed_forward/gate", dense + "wi_0", "linear"),
            ("feed_forward/expand", dense + "wi_1", "linear"),
        ]
    return [
        *first,
        ("feed_forward/contract", dense + "wo", "linear"),
        ("feed_forward_norm", f"layer.{layer}.layer_norm", "rms_norm"),
    ]


def _t5_layout(config: Mapping[str, Any], task: str) -> list[tuple]:
    gated, _ = _feed_forward(config)
    own = [
        *_t5_attention("attention", "layer.0.SelfAttention"),
        ("attention_norm", "layer.0.layer_norm", "rms_norm"),
    ]
    cross = [
        *_t5_attention("cross_attention", "layer.1.EncDecAttention"),
        ("cross_attention_norm", "layer.1.layer_norm", "rms_norm"),
    ]
    counts = (config["num_layers"], config.get("num_decoder_layers") or config["num_layers"])
    distances = "block.0.layer.0.SelfAttention.relative_attention_bias"
    table = [
        *layer("embedding", "shared", "table"),
        Tensor("embedding/reverse_embeddings", "lm_head.weight", "transposed"),
    ]
    blocks = ([*own, *_t5_feed_forward(1, gated)], [*own, *cross, *_t5_feed_forward(2, gated)])
    for side, count, block in zip(("encoder", "decoder"), counts, blocks, strict=True):
        table += layer(f"{side}/positions", f"{side}.{distances}", "table")
        table += layer(f"{side}/final_norm", f"{side}.final_layer_norm", "rms_norm")
        for i in range(count):
            table += layers(f"{side}/block_{i}/", f"{side}.block.{i}.", block)
    return table


def _marian_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(
        config, normalize_before=False, normalize_embedding=False, static_position_embeddings=True
    )
    refuse_other(config, share_encoder_decoder_embeddings=True, add_final_layer_norm=False)
    names = ("vocab_size", "encoder_layers", "decoder_layers", "d_model", "encoder_ffn_dim")
    vocabulary_size, layers, decoder_layers, width, inner = need(config, *names)
    heads = config.get("encoder_attention_heads", 8)
    refuse_other(config, decoder_attention_heads=heads, decoder_ffn_dim=inner)
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": layers,
        "num_decoder_layers": decoder_layers,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": config.get("max_position_embeddings", 512),
        "position": "sinusoidal_halves",
        "norm_first": False,
        "activation": activation(config.get("activation_function", "swish")),
        "scale_embedding": config.get("scale_embedding", False),
        "tie_embeddings": True,
        "logits_bias": True,
        "dropout": config.get("dropout", 0.1),
    }


BART_FEED_FORWARD = [
    ("feed_forward/expand", "fc1", "linear"),
    ("feed_forward/contract", "fc2", "linear"),
    ("feed_forward_norm", "final_layer_norm", "layer_norm"),
]


def bart_attention(ours: str, theirs: str) -> list[tuple[str, str, str]]:
    """Return the rows of an attention and its norm, with the names of BART."""
    return [
        (f"{ours}/query", f"{theirs}.q_proj", "linear"),
        (f"{ours}/key", f"{theirs}.k_proj", "linear"),
        (f"{ours}/value", f"{theirs}.v_proj", "linear"),
        (f"{ours}/output_projection", f"{theirs}.out_proj", "linear"),
        (f"{ours}_norm", f"{theirs}_layer_norm", "layer_norm"),
    ]


def _marian_layout(config: Mapping[str, Any], task: str) -> list[tuple]:
    own = bart_attention("attention", "self_attn")
    cross = bart_attention("cross_attention", "encoder_attn")
    table = [
        *layer("embedding", "model.shared", "table"),
        Tensor("embedding/reverse_embeddings", "lm_head.weight", "transposed"),
        _marian_bias(config),
    ]
    for i in range(config["encoder_layers"]):
        table += layers(
            f"encoder/block_{i}/", f"model.encoder.layers.{i}.", [*own, *BART_FEED_FORWARD]
        )
    for i in range(config["decoder_layers"]):
        table += layers(
            f"decoder/block_{i}/", f"model.decoder.layers.{i}.", [*own, *cross, *BART_FEED_FORWARD]
        )
    return table


def _marian_positions(shape: tuple[int, ...]) -> np.ndarray:
    """Return the position signals (positions, width): the sines, then the cosines."""
    length, width = shape
    angles = np.arange(length)[:, None] / 10_000 ** (2 * np.arange(width // 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _marian_bias(config: Mapping[str, Any]) -> Group:
    """Return the place of the logits' bias. Marian's padding is a token with a logit of 0 that must
    never be written: here its bias is `_NEVER`."""

    def load(arrays):
        bias = arrays[0].reshape(-1).copy()
        bias[config["pad_token_id"]] = _NEVER
        return [bias]

    return Group(
        ("logits_bias",), ("final_logits_bias",), load, lambda arrays: [arrays[0].reshape(1, -1)]
    )


def _t5_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    name = "gelu" if config.activation == "gelu_tanh" and config.gated else config.activation
    return {
        # A tied T5 scales the input of its read-out.
        "model_type": "mt5" if config.tie_embeddings and config.logit_scale == 1 else "t5",
        "vocab_size": config.vocabulary_size,
        "num_layers": config.num_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "num_heads": config.num_heads,
        "d_kv": config.head_dim,
        "d_model": config.hidden_dim,
        "d_ff": config.intermediate_dim,
        "n_positions": config.max_sequence_length,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "layer_norm_epsilon": config.norm_epsilon,
        "feed_forward_proj": f"gated-{name}" if config.gated else name,
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": config.logit_scale != 1,
        "dropout_rate": config.dropout,
        "pad_token_id": config.padding_id,
        "eos_token_id": config.end_id,
        "decoder_start_token_id": config.start_id,
        "is_encoder_decoder": True,
    }


def bart_config(config: TransformerConfig) -> dict[str, Any]:
    """Return the part of config.json that Marian and BART share."""
    values = {
        "vocab_size": config.vocabulary_size,
        "d_model": config.hidden_dim,
        "activation_function": their_activation(config.activation),
        "scale_embedding": config.scale_embedding,
        "max_position_embeddings": config.max_sequence_length,
        "dropout": config.dropout,
        "pad_token_id": config.padding_id,
        "eos_token_id": config.end_id,
        "forced_eos_token_id": config.end_id,
        "decoder_start_token_id": config.start_id,
        "is_encoder_decoder": True,
    }
    sides = {"encoder": config.num_layers, "decoder": config.num_decoder_layers}
    for side, count in sides.items():
        values |= {
            f"{side}_layers": count,
            f"{side}_attention_heads": config.num_heads,
            f"{side}_ffn_dim": config.intermediate_dim,
        }
    return values


def _marian_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return bart_config(config) | {
        "model_type": "marian",
        "static_position_embeddings": True,
        "share_encoder_decoder_embeddings": True,
        "bad_words_ids": [[config.padding_id]],
    }


T5 = Family(
    model_types=("t5", "mt5"),
    tasks={
        "ForConditionalGeneration": "seq2seq",
        "WithLMHeadModel": "seq2seq",
        "Model": "seq2seq",
        "EncoderModel": "embedding",
        "ForTokenClassification": "embedding",
    },
    fields=_t5_fields,
    layout=_t5_layout,
    to_config=_t5_config,
    heads=("decoder.",),
)
MARIAN = Family(
    model_types=("marian",),
    tasks={"MTModel": "seq2seq", "Model": "seq2seq"},
    fields=_marian_fields,
    layout=_marian_layout,
    to_config=_marian_config,
    prefix="model.",
    computed={
        "encoder.embed_positions.weight": _marian_positions,
        "decoder.embed_positions.weight": _marian_positions,
    },
)
