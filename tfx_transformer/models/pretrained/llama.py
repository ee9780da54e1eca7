"""Llama and models of the same structure: Mistral, Qwen2, Qwen3, SmolLM.

Touvron et al. (2023); Jiang et al. (2023); Yang et al. (2024); Yang et al. (2025); Allal et al.
(2025).
"""

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
    refuse_other,
    their_activation,
)

LLAMA_BLOCK = [
    ("attention_norm", "input_layernorm", "rms_norm"),
    ("attention/query", "self_attn.q_proj", "linear"),
    ("attention/key", "self_attn.k_proj", "linear"),
    ("attention/value", "self_attn.v_proj", "linear"),
    ("attention/output_projection", "self_attn.o_proj", "linear"),
    ("attention/query_norm", "self_attn.q_norm", "rms_norm"),
    ("attention/key_norm", "self_attn.k_norm", "rms_norm"),
    ("feed_forward_norm", "post_attention_layernorm", "rms_norm"),
    ("feed_forward/gate", "mlp.gate_proj", "linear"),
    ("feed_forward/expand", "mlp.up_proj", "linear"),
    ("feed_forward/contract", "mlp.down_proj", "linear"),
]


def decoder_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return the fields of a Llama; other families change some of them."""
    names = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size")
    vocabulary_size, layers, heads, width = need(config, *names)
    inner, longest = need(config, "intermediate_size", "max_position_embeddings")
    fields = {
        "vocabulary_size": vocabulary_size,
        "num_layers": layers,
        "num_heads": heads,
        "num_key_value_heads": config.get("num_key_value_heads"),
        "head_dim": config.get("head_dim"),
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": longest,
        "position": "rotary",
        "norm": "rms_norm",
        "norm_epsilon": config.get("rms_norm_eps", 1e-6),
        "activation": activation(config.get("hidden_act", "silu")),
        "gated": True,
        "use_bias": config.get("attention_bias", False),
        "feed_forward_bias": config.get("mlp_bias", False),
        "scale_embedding": False,
        "tie_embeddings": config.get("tie_word_embeddings", False),
        "dropout": 0.0,
    }
    return fields | rotary_fields(rope_parameters(config))


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `rope_parameters` of transformers 5, also from the `rope_theta` and `rope_scaling` of
    earlier releases."""
    values = {"rope_theta": config.get("rope_theta"), **(config.get("rope_scaling") or {})}
    values |= config.get("rope_parameters") or {}
    values["rope_type"] = values.get("rope_type") or values.pop("type", "default")
    longest = config.get("max_position_embeddings")
    values.setdefault("original_max_position_embeddings", longest)
    return values


def rotary_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields for `rope_parameters`."""
    fields = {"rope_theta": float(values.get("rope_theta") or 10_000.0)}
    refuse_other(values, partial_rotary_factor=1.0)
    # "dynamic" only changes texts longer than in training, which are not read here.
    if values["rope_type"] not in ("default", "dynamic"):
        left_out = ("rope_theta", "type", "partial_rotary_factor")
        fields["rope_scaling"] = {k: v for k, v in values.items() if k not in left_out}
    return fields


def windows(config: Mapping[str, Any], window: int | None) -> dict[str, Any]:
    """Return the fields of the attention windows; transformers 4.53 and later name the kind of each
    block in `layer_types`."""
    if not window:
        return {}
    types = config.get("layer_types") or ["sliding_attention"] * config["num_hidden_layers"]
    layers = [i for i, kind in enumerate(types) if kind == "full_attention"]
    if len(layers) == len(types):
        return {}
    return {"sliding_window": window, "global_layers": tuple(layers)}


def _mistral_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    return decoder_fields(config, task) | windows(config, config.get("sliding_window"))


def _qwen_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return the fields of Qwen2, with biases of queries, keys and values only, or of Qwen3; both
    may have a window from some block on."""
    fields = decoder_fields(config, task)
    if config["model_type"] == "qwen2":
        fields |= {"use_bias": False, "qkv_bias": True}
    else:
        fields |= {"query_key_norm": True}
    if not config.get("use_sliding_window"):
        return fields
    types = config.get("layer_types")
    if types is None:
        first = config.get("max_window_layers", 0)
        count = config["num_hidden_layers"]
        types = ["full_attention"] * first + ["sliding_attention"] * (count - first)
    return fields | windows({**config, "layer_types": types}, config.get("sliding_window"))


def decoder_layout(
    config: Mapping[str, Any], task: str, block: list[tuple], norm: str = "rms_norm"
) -> list[Tensor | Group]:
    """Return the places of the variables of a Llama, or of a model of the same structure.

    Args:
        block: rows of `layers`, the same for each block.
        norm: kind of the last norm.
    """
    stack = STACKS[task]
    table: list[Tensor | Group] = [
        *layer("embedding", "model.embed_tokens", "table"),
        Tensor("embedding/reverse_embeddings", "lm_head.weight", "transposed"),
        *layer(f"{stack}/final_norm", "model.norm", norm),
    ]
    for i in range(config["num_hidden_layers"]):
        table += layers(f"{stack}/block_{i}/", f"model.layers.{i}.", block)
    return table


def decoder_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    """Return config.json of a Llama; other families change some of it."""
    rope = {"rope_theta": config.rope_theta, "rope_type": "default"}
    return {
        "model_type": "llama",
        "vocab_size": config.vocabulary_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.intermediate_dim,
        "max_position_embeddings": config.max_sequence_length,
        "hidden_act": their_activation(config.activation),
        "rms_norm_eps": config.norm_epsilon,
        "attention_bias": config.use_bias,
        "mlp_bias": config.feed_forward_bias,
        "tie_word_embeddings": config.tie_embeddings,
        # In the forms of transformers 4 and 5.
        "rope_theta": config.rope_theta,
        "rope_scaling": config.rope_scaling,
        "rope_parameters": rope | (config.rope_scaling or {}),
        "pad_token_id": config.padding_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
    }


def partial_rotary_factor(config: TransformerConfig) -> float:
    """Return the rotated share of a head; transformers rounds its product with the head's width
    down."""
    share = config.rotary_dim / config.head_dim
    exact = int(config.head_dim * share) == config.rotary_dim
    return share if exact else (config.rotary_dim + 0.5) / config.head_dim


def layer_types(config: TransformerConfig) -> list[str]:
    """Return transformers' name for the attention of each block."""
    kinds = ("full_attention", "sliding_attention")
    return [kinds[bool(config.window_of(i))] for i in range(config.num_layers)]


def _mistral_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    window = config.sliding_window or None
    return decoder_config(config, task) | {"model_type": "mistral", "sliding_window": window}


def _qwen_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return decoder_config(config, task) | {
        "model_type": "qwen3" if config.query_key_norm else "qwen2",
        "use_sliding_window": bool(config.sliding_window),
        "sliding_window": config.sliding_window or None,
        "layer_types": layer_types(config),
    }


DECODER_TASKS = {"ForCausalLM": "causal", "Model": "causal"}
# An embedder reads with the decoder stack: attention stays causal.
STACKS = {"causal": "decoder", "embedding": "encoder"}
AS_EMBEDDER = {"embedding": lambda config: {"causal_encoder": True}}

LLAMA = Family(
    model_types=("llama",),
    tasks=DECODER_TASKS,
    fields=decoder_fields,
    layout=lambda config, task: decoder_layout(config, task, LLAMA_BLOCK),
    to_config=decoder_config,
    prefix="model.",
    also=("embedding",),
    for_task=AS_EMBEDDER,
)
MISTRAL = Family(
    model_types=("mistral",),
    tasks=DECODER_TASKS,
    fields=_mistral_fields,
    layout=LLAMA.layout,
    to_config=_mistral_config,
    prefix="model.",
    also=("embedding",),
    for_task=AS_EMBEDDER,
)
QWEN = Family(
    model_types=("qwen2", "qwen3"),
    tasks=DECODER_TASKS,
    fields=_qwen_fields,
    layout=LLAMA.layout,
    to_config=_qwen_config,
    prefix="model.",
    also=("embedding",),
    for_task=AS_EMBEDDER,
)
