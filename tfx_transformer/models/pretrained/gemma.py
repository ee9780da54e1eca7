"""Gemma 1, 2 and 3: Gemma Team (2024a, 2024b, 2025). EmbeddingGemma is a Gemma 3 with bidirectional
attention. Only the text part of a Gemma 3 that also reads images is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.family import Family, Group, Tensor, refuse_other
from tfx_transformer.models.pretrained.llama import (
    AS_EMBEDDER,
    DECODER_TASKS,
    LLAMA_BLOCK,
    decoder_config,
    decoder_fields,
    decoder_layout,
    layer_types,
    windows,
)

_LINEARS = [row for row in LLAMA_BLOCK if row[2] == "linear"]
_BLOCK = [
    *_LINEARS,
    ("attention_norm", "input_layernorm", "gemma_norm"),
    ("feed_forward_norm", "post_attention_layernorm", "gemma_norm"),
]
_SANDWICH_BLOCK = [
    *_LINEARS,
    ("attention_norm", "input_layernorm", "gemma_norm"),
    ("attention_result_norm", "post_attention_layernorm", "gemma_norm"),
    ("attention/query_norm", "self_attn.q_norm", "gemma_norm"),
    ("attention/key_norm", "self_attn.k_norm", "gemma_norm"),
    ("feed_forward_norm", "pre_feedforward_layernorm", "gemma_norm"),
    ("feed_forward_result_norm", "post_feedforward_layernorm", "gemma_norm"),
]

# Values that `text_config` of a Gemma 3 for images and texts may leave out.
_TEXT_DEFAULTS = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
    "rope_theta": 1_000_000.0,
}


def _common(config: Mapping[str, Any], task: str, name: str) -> dict[str, Any]:
    """Return the fields that all three have; name: the activation."""
    defaults = {
        "hidden_act": name,
        "head_dim": config.get("head_dim", 256),
        "tie_word_embeddings": config.get("tie_word_embeddings", True),
    }
    return decoder_fields({**config, **defaults}, task) | {"scale_embedding": True}


def _first_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(config, use_bidirectional_attention=False)
    name = config.get("hidden_act", "gelu_pytorch_tanh")
    # In the first releases "gelu" is the approximation.
    return _common(config, task, "gelu_pytorch_tanh" if name == "gelu" else name)


def _sandwich(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return the fields that Gemma 2 and 3 share."""
    scalar = config.get("query_pre_attn_scalar", 256)
    name = config.get("hidden_activation", "gelu_pytorch_tanh")
    return _common(config, task, name) | {
        "sandwich_norm": True,
        "attention_scale": float(scalar) ** -0.5,
    }


def _second_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    refuse_other(config, use_bidirectional_attention=False)
    types = _types(config, every=2)
    return (
        _sandwich(config, task)
        | windows({**config, "layer_types": types}, config.get("sliding_window", 4096))
        | {
            "attention_softcap": config.get("attn_logit_softcapping", 50.0),
            "logit_softcap": config.get("final_logit_softcapping", 30.0),
        }
    )


def _types(config: Mapping[str, Any], every: int) -> list[str]:
    """Return the kind of attention of each block; without `layer_types`, every `every`-th block has
    full attention."""
    types = config.get("layer_types")
    if types is None:
        count = config["num_hidden_layers"]
        types = ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(count)]
    return types


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of config.json for texts; a model that also reads images has other parts."""
    if config["model_type"] != "gemma3":
        return config
    return {**_TEXT_DEFAULTS, **(config.get("text_config") or {})}


def _third_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    config = _text(config)
    refuse_other(config, final_logit_softcapping=None, attn_logit_softcapping=None)
    both_sides = bool(config.get("use_bidirectional_attention"))
    types = _types(config, config.get("sliding_window_pattern", 6))
    both = config.get("rope_parameters") or {}
    if "full_attention" in both:
        local = both.get("sliding_attention", {}).get("rope_theta", 10_000.0)
        config = {**config, "rope_parameters": both["full_attention"]}
    else:
        local = config.get("rope_local_base_freq", 10_000.0)
    window = config.get("sliding_window", 4096)
    if both_sides and window:  # theirs includes the tokens on both sides
        window = window // 2 + 1
    return (
        _sandwich(config, task)
        | windows({**config, "layer_types": types}, window)
        | {"query_key_norm": True, "local_rope_theta": float(local)}
    )


def _third_writer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Raise if a model that writes has bidirectional attention; return {}."""
    refuse_other(_text(config), use_bidirectional_attention=False)
    return {}


def _third_embedder(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"causal_encoder": not _text(config).get("use_bidirectional_attention")}


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    return decoder_layout(_text(config), task, _SANDWICH_BLOCK, "gemma_norm")


def _first_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    name = "gelu_pytorch_tanh"
    return decoder_config(config, task) | {"model_type": "gemma", "hidden_activation": name}


def _sandwich_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    scale = config.attention_scale or config.head_dim**-0.5
    return decoder_config(config, task) | {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": round(scale**-2),
        "sliding_window": config.sliding_window or None,
        "layer_types": layer_types(config),
    }


def _second_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    return _sandwich_config(config, task) | {
        "model_type": "gemma2",
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
    }


# Task -> (configuration) -> True if attention is bidirectional.
_SEES_BOTH_SIDES = {
    "causal": lambda config: False,
    "embedding": lambda config: not config.causal_encoder,
}


def _third_config(config: TransformerConfig, task: str) -> dict[str, Any]:
    values = _sandwich_config(config, task)
    local = {"rope_theta": config.local_rope_theta, "rope_type": "default"}
    rope = {"full_attention": values["rope_parameters"], "sliding_attention": local}
    both_sides = _SEES_BOTH_SIDES[task](config)
    if both_sides and config.sliding_window:
        values["sliding_window"] = 2 * (config.sliding_window - 1)
    return values | {
        "model_type": "gemma3_text",
        "use_bidirectional_attention": both_sides,
        "rope_local_base_freq": config.local_rope_theta,
        "rope_parameters": rope,
    }


GEMMA = Family(
    model_types=("gemma",),
    tasks=DECODER_TASKS,
    fields=_first_fields,
    layout=lambda config, task: decoder_layout(config, task, _BLOCK, "gemma_norm"),
    to_config=_first_config,
    prefix="model.",
    also=("embedding",),
    for_task=AS_EMBEDDER,
)
GEMMA2 = Family(
    model_types=("gemma2",),
    tasks=DECODER_TASKS,
    fields=_second_fields,
    layout=lambda config, task: decoder_layout(config, task, _SANDWICH_BLOCK, "gemma_norm"),
    to_config=_second_config,
    prefix="model.",
    also=("embedding",),
    for_task=AS_EMBEDDER,
)
GEMMA3 = Family(
    model_types=("gemma3_text", "gemma3"),
    tasks=DECODER_TASKS | {"TextModel": "causal", "ForConditionalGeneration": "causal"},
    fields=_third_fields,
    layout=_layout,
    to_config=_third_config,
    prefix="model.",
    also=("embedding",),
    for_task={"causal": _third_writer, "embedding": _third_embedder},
    heads=("vision_tower.", "multi_modal_projector."),
    renamed=(
        ("language_model.lm_head.", "lm_head."),
        ("language_model.model.", "model."),
        ("model.language_model.", "model."),
    ),
)
