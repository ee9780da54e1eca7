"""XLA's plan of the memory of a training step, on JAX: nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

# XLA schedules for little memory, as on a GPU: on a CPU it begins work as early as it can, and
# holds more. Machine code, which is not run, is not optimized: that changes nothing of the plan.
ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    "XLA_FLAGS": "--xla_cpu_enable_concurrency_optimized_scheduler=false "
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}


class Held(NamedTuple):
    """Bytes of a step: the state (weights, both moments of AdamW, metrics) with its batch, and all
    that the step holds besides, at its peak."""

    state: int
    besides: int


def held_by_step(
    new_model: Callable[[], Any],
    rows: int,
    length: int,
    accumulate: int = 1,
    remat: bool = False,
    base_dtype: str = "",
) -> Held:
    """Return XLA's plan of the step that `fit` makes with AdamW, without metrics.

    Args:
        new_model: returns a decoder-only or a masked model.
        rows: texts of a batch.
        length: tokens of a text.
        accumulate: parts in which the step computes the batch.
        remat: the inside of blocks is computed again.
        base_dtype: format of a frozen base with adapters of rank 8; "": all weights are trained.
    """
    import jax

    import tfx_transformer as tfx
    from tfx_transformer.models import scopes

    ids = jax.ShapeDtypeStruct((rows, length), "int32")
    with scopes.without_memory():
        model = new_model()
        if base_dtype:
            _add_adapters(model, base_dtype)
    inputs = {"token_ids": ids}
    if model.task == "masked":
        inputs["masked_positions"] = ids
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    model.compile(tfx.training.adamw(1e-3), weighted_metrics=[])
    with scopes.without_memory():
        model.optimizer.build(model.trainable_variables)
    state = [
        [jax.ShapeDtypeStruct(variable.shape, variable.dtype) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    ]
    batch = (inputs, ids, jax.ShapeDtypeStruct((rows, length), "float32"))

    def step(state, batch):
        return model.train_step(state, batch)

    plan = jax.jit(step, donate_argnums=0).lower(tuple(state), batch).compile().memory_analysis()
    new = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return Held(plan.argument_size_in_bytes, plan.temp_size_in_bytes + new)


def _add_adapters(model: Any, base_dtype: str) -> None:
    """Add adapters of rank 8 to a model without memory. Weights that are read, to be stored in
    another format, are zeros."""
    import tfx_transformer as tfx
    from tfx_transformer.layers import four_bit

    for weight in model.weights:
        if "seed_generator" not in weight.path:
            weight._initializer = lambda shape, dtype=None: np.zeros(shape, dtype)
    stored = None if base_dtype == "float32" else base_dtype
    with (
        mock.patch.object(four_bit, "quantize", _zeros),
        # Keras reads a kernel for its shape.
        mock.patch.object(four_bit, "dequantize", lambda *parts: np.broadcast_to(0, parts[-1])),
    ):
        tfx.add_adapters(model, rank=8, base_dtype=stored)


def _zeros(kernel, levels=None):
    """Return zeros of the shapes that `four_bit.quantize` returns."""
    from tfx_transformer.layers import four_bit

    blocks = -(-kernel.size // four_bit.BLOCK)
    ranges = np.zeros((-(-blocks // four_bit.GROUP), 2), "float32")
    return np.zeros(blocks * four_bit.BLOCK // 2, "uint8"), np.zeros(blocks, "uint8"), ranges
