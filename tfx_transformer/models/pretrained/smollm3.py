"""SmolLM3: Bakouch et al. (2025), a Llama in which every fourth block has no positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.family import Family
from tfx_transformer.models.pretrained.llama import (
    AS_EMBEDDER,
    DECODER_TASKS,
    LLAMA,
    decoder_config,
    decoder_fields,
    layer_types,
    windows,
)


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    defaults = {"tie_word_embeddings": True, "rope_theta": 2_000_000.0, "rms_norm_eps": 1e-6}
    config = {**defaults, **config}
    fields = decoder_fields(config, task)
    rotated = config.get("no_rope_layers")
    if rotated is None:
        every = config.get("no_rope_layer_interval", 4)
        rotated = [(i + 1) % every for i in range(config["num_hidden_layers"])]
    fields["no_position_layers"] = tuple(i for i, turned in enumerate(rotated) if not turned)
    if not config.get("use_sliding_window"):
        return fields
    types = config.get("layer_types")
    if types is None:  # blocks without positions have the window
        types = ["full_attention" if turned else "sliding_attention" for turned in rotated]
    return fields | windows({**config, "layer_types": types}, config.get("sliding_window"))


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    rotated = [int(i not in config.no_position_layers) for i in range(config.num_layers)]
    return decoder_config(config, task) | {
        "model_type": "smollm3",
        "no_rope_layers": rotated,
        "use_sliding_window": bool(config.sliding_window),
        "sliding_window": config.sliding_window or None,
        "layer_types": layer_types(config),
    }


SMOLLM3 = Family(
    model_types=("smollm3",),
    tasks=DECODER_TASKS,
    fields=_fields,
    layout=LLAMA.layout,
    to_config=_config,
    prefix="model.",
    also=("embedding",),
    for_task=AS_EMBEDDER,
)
