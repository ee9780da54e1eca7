"""The memory of a training step in the shape of Qwen2.5 0.5B, with one text.

XLA's plan of loss and gradient in float32, besides weights, on JAX; nothing is run, and no weights
are made. XLA is set to schedule for little memory, as on a GPU: on a CPU it begins work as early as
it can, and holds more.

    python -m benchmarks step_memory

It takes about 15 minutes on 2 cores. Expect, with 1,024 tokens, that logits in chunks save a sixth,
and rematerialisation most of the rest.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from benchmarks.tables import Case, Settings, System

UNIT = None
CASES = tuple(
    Case(f"{length}-tokens", f"{length:,} tokens", {"length": length, "layers": 24})
    for length in (512, 1024, 2048, 4096, 8192)
)
QWEN = {
    "num_layers": 24,
    "hidden_dim": 896,
    "num_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_dim": 4864,
    "qkv_bias": True,
    "tie_embeddings": True,
    "dropout": 0.0,
}
VOCABULARY = 151_936
ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    "XLA_FLAGS": "--xla_cpu_enable_concurrency_optimized_scheduler=false",
}


def plan(chunks: bool, parts: bool, remat: bool, settings: Settings) -> dict[str, Any]:
    """XLA's plan of a step.

    Args:
        chunks: logits in chunks; otherwise all at once.
        parts: attention in blocks of queries; otherwise all scores at once.
        remat: the inside of blocks is computed again.
    """
    import jax

    import tfx_transformer as tfx
    from tfx_transformer.layers import attention
    from tfx_transformer.models import scopes, token_scores

    if not chunks:
        token_scores.CHUNK = 2**62
    if not parts:
        attention.BLOCK = 2**62
    length, sizes = settings["length"], QWEN | {"num_layers": settings["layers"]}
    begin = time.monotonic()
    config = tfx.TransformerConfig.of_size(
        "base", VOCABULARY, "llama", max_sequence_length=length, **sizes
    )
    with scopes.without_memory():
        model = tfx.CausalLM(config)
    model.remat = remat
    model.compile("sgd")
    trained, frozen = (
        [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in weights]
        for weights in (model.trainable_variables, model.non_trainable_variables)
    )
    ids = jax.ShapeDtypeStruct((1, length), "int32")

    def step(trained, frozen, ids):
        inputs, labels, weights = model.with_targets(({"token_ids": ids}, ids, None))

        def loss_of(trained):
            predicted, _ = model.stateless_call(trained, frozen, inputs, training=True)
            return model.loss(labels, predicted, weights)

        return jax.value_and_grad(loss_of)(trained)

    found = jax.jit(step).lower(trained, frozen, ids).compile().memory_analysis()
    return {
        "weights, MB": round(found.argument_size_in_bytes / 1e6),
        "besides, MB": round(found.temp_size_in_bytes / 1e6),
        "seconds": round(time.monotonic() - begin, 1),
    }


SYSTEMS = tuple(
    System(name, title, functools.partial(plan, *given), ("jax", "keras"), ENVIRONMENT)
    for name, title, *given in (
        ("tfx-whole", "all logits and scores", False, False, False),
        ("tfx-chunks", "logits in chunks", True, False, False),
        ("tfx-remat", "logits in chunks, --remat", True, False, True),
        ("tfx-blocks", "and attention in blocks", True, True, True),
    )
)
