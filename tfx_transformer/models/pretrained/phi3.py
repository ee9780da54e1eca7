"""Phi-3 and Phi-4-mini: Abdin et al. (2024), a Llama with fused projections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.family import Family, Group, Tensor, fuse
from tfx_transformer.models.pretrained.llama import (
    AS_EMBEDDER,
    DECODER_TASKS,
    LLAMA_BLOCK,
    STACKS,
    decoder_config,
    decoder_fields,
    decoder_layout,
    partial_rotary_factor,
    rope_parameters,
    windows,
)

_FUSED = ("query", "key", "value", "gate", "expand")
_BLOCK = [row for row in LLAMA_BLOCK if not row[0].endswith(_FUSED)]


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    values = rope_parameters(config)
    share = values.pop("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    plain = {key: config[key] for key in config if key not in ("rope_scaling", "rope_parameters")}
    fields = decoder_fields(
        {**plain, "rope_parameters": {"rope_theta": values["rope_theta"]}}, task
    )
    head_dim = config.get("head_dim") or fields["hidden_dim"] // fields["num_heads"]
    fields |= {"rotary_dim": int(head_dim * share)}
    # "su" and "yarn" are older names of "longrope".
    if values["rope_type"] in ("longrope", "su", "yarn"):
        fields |= _long(config, values)
    return fields | windows(config, config.get("sliding_window"))


def _long(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of longrope. Up to the original context, wavelengths are multiplied by the
    short factors; longer texts, with the long factors, are not read here."""
    longest = config["max_position_embeddings"]
    first = config.get("original_max_position_embeddings")
    first = first or values["original_max_position_embeddings"]
    factor = values.get("factor") or longest / first
    grown = values.get("attention_factor")
    if grown is None:
        grown = math.sqrt(1 + math.log(factor) / math.log(first)) if factor > 1 else 1.0
    scaling = {
        "rope_type": "longrope",
        "short_factor": list(values["short_factor"]),
        "long_factor": list(values.get("long_factor") or values["short_factor"]),
        "factor": factor,
        "attention_factor": grown,
        "original_max_position_embeddings": first,
    }
    return {"rope_scaling": scaling, "max_sequence_length": min(longest, first)}


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    heads, inner = config["num_attention_heads"], config["intermediate_size"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    pairs = config.get("num_key_value_heads") or heads
    table = decoder_layout(config, task, _BLOCK)
    for i in range(config["num_hidden_layers"]):
        ours, theirs = f"{STACKS[task]}/block_{i}/", f"model.layers.{i}."
        parts = [f"{ours}attention/{part}" for part in ("query", "key", "value")]
        sizes = [heads * width, pairs * width, pairs * width]
        table += fuse(parts, theirs + "self_attn.qkv_proj", sizes)
        both = [f"{ours}feed_forward/{part}" for part in ("gate", "expand")]
        table += fuse(both, theirs + "mlp.gate_up_proj", [inner] * 2)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    values = decoder_config(config, task)
    share = partial_rotary_factor(config)
    values["rope_parameters"] |= {"partial_rotary_factor": share}
    scaling = config.rope_scaling or {}
    first = scaling.get("original_max_position_embeddings", config.max_sequence_length)
    if scaling.get("factor") and first == config.max_sequence_length:
        values["max_position_embeddings"] = round(first * scaling["factor"])
    return values | {
        "model_type": "phi3",
        "partial_rotary_factor": share,
        "original_max_position_embeddings": first,
        "sliding_window": config.sliding_window or None,
    }


PHI3 = Family(
    model_types=("phi3",),
    tasks=DECODER_TASKS,
    fields=_fields,
    layout=_layout,
    to_config=_config,
    prefix="model.",
    also=("embedding",),
    for_task=AS_EMBEDDER,
)
