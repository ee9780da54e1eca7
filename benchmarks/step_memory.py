"""The memory of a training step in the shape of Qwen2.5 0.5B.

XLA's plan of the step that `fit` makes in float32, besides weights and both moments of AdamW, on
JAX; nothing is run, and no weights are made (`compiled_step`). The gradient is in all figures. Of
the 24 layers most plans have 4 and 8, since the layers are alike: what four more layers add tells
what all 24 hold. One case plans all 24, to check that; it was not finished yet.

    python -m benchmarks step_memory

It takes about 30 minutes on 2 cores. Expect that rematerialisation saves most of the activations:
with chunks, blocks and rematerialisation, the gradient is half or more of what is held up to 4,096
tokens. docs/scale.md has the figures.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from benchmarks.compiled_step import ENVIRONMENT, held_by_step
from benchmarks.tables import Case, Settings, System

UNIT = None
LENGTHS = (512, 1024, 2048, 4096, 8192)
CASES = (
    *(
        Case(
            f"{layers}-layers-{length}-tokens",
            f"{layers} layers, a text of {length:,} tokens",
            {"layers": layers, "rows": 1, "length": length},
        )
        for layers, lengths in ((4, LENGTHS), (8, LENGTHS), (24, (1024,)))
        for length in lengths
    ),
    Case("8-texts", "8 layers, 8 texts of 512 tokens", {"layers": 8, "rows": 8, "length": 512}),
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
    layers = 2 if settings["quick"] else settings["layers"]
    held = held_by_step(
        functools.partial(new_model, layers, settings["length"]),
        settings["rows"],
        settings["length"],
        accumulate,
        remat,
    )
    return {
        "weights and moments, MB": round(held.state / 1e6),
        "besides, MB": round(held.besides / 1e6),
        "seconds": round(time.monotonic() - begin, 1),
    }


def new_model(layers: int, length: int) -> Any:
    """A model of the shape."""
    import tfx_transformer as tfx

    sizes = QWEN | {"num_layers": layers, "max_sequence_length": length}
    return tfx.CausalLM(tfx.TransformerConfig.of_size("base", VOCABULARY, "llama", **sizes))


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
