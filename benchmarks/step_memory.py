"""The memory of a training step in the shape of Qwen2.5 0.5B.

XLA's plan of the step that `fit` makes in float32, besides weights and both moments of AdamW, on
JAX; nothing is run, and no weights are made (`compiled_step`). The gradient, 1,976 MB, is in all
figures. The plans are of 2 and 4 layers, and 24 layers are computed: each layer adds the same.

    python -m benchmarks step_memory

It takes about 10 minutes on 2 cores. Expect that rematerialisation saves most of the activations,
and that with it and attention in blocks the gradient is most of what is held up to 4,096 tokens.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from benchmarks.compiled_step import ENVIRONMENT, held_by_step
from benchmarks.tables import Case, Settings, System

UNIT = None
# Layers of the model, and of the plans.
LAYERS, PLANNED = 24, (2, 4)
CASES = (
    *(
        Case(f"{length}-tokens", f"a text of {length:,} tokens", {"rows": 1, "length": length})
        for length in (512, 1024, 2048, 4096, 8192)
    ),
    Case("8-texts", "8 texts of 512 tokens", {"rows": 8, "length": 512}),
)
QWEN = {
    "hidden_dim": 896,
    "num_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_dim": 4864,
    "qkv_bias": True,
    "tie_embeddings": True,
    "dropout": 0.0,
}
VOCABULARY = 151_936


def plan(
    chunks: bool, blocks: bool, remat: bool, accumulate: int, settings: Settings
) -> dict[str, Any]:
    """XLA's plan of a step.

    Args:
        chunks: logits in chunks; otherwise all at once.
        blocks: attention in blocks of queries; otherwise all scores at once.
        remat: the inside of blocks is computed again.
        accumulate: parts of a step with several texts.
    """
    from tfx_transformer.layers import attention
    from tfx_transformer.models import token_scores

    if not chunks:
        token_scores.CHUNK = 2**62
    if not blocks:
        attention.BLOCK = 2**62
    if accumulate > settings["rows"]:
        return {"besides, MB": ""}
    begin = time.monotonic()
    few, more = (besides(layers, remat, accumulate, settings) for layers in PLANNED)
    each = (more - few) / (PLANNED[1] - PLANNED[0])
    return {
        "besides, MB": round((few + (LAYERS - PLANNED[0]) * each) / 1e6),
        "of each layer, MB": round(each / 1e6, 1),
        "seconds": round(time.monotonic() - begin, 1),
    }


def besides(layers: int, remat: bool, accumulate: int, settings: Settings) -> int:
    """The bytes of XLA's plan, besides weights and moments."""
    import tfx_transformer as tfx

    rows, length = settings["rows"], settings["length"]
    sizes = QWEN | {"num_layers": layers, "max_sequence_length": length}
    config = tfx.TransformerConfig.of_size("base", VOCABULARY, "llama", **sizes)
    return held_by_step(lambda: tfx.CausalLM(config), rows, length, accumulate, remat).besides


SYSTEMS = tuple(
    System(name, title, functools.partial(plan, *given), ("jax", "keras"), ENVIRONMENT)
    for name, title, *given in (
        ("tfx-whole", "all logits and scores", False, False, False, 1),
        ("tfx-chunks", "logits in chunks", True, False, False, 1),
        ("tfx-blocks", "and attention in blocks", True, True, False, 1),
        ("tfx-remat", "logits in chunks, --remat", True, False, True, 1),
        ("tfx-all", "and attention in blocks", True, True, True, 1),
        ("tfx-parts", "and --accumulate 8", True, True, True, 8),
    )
)
