"""The memory of a base in 4 bits.

Reading: how far the memory of a process rises while it reads a checkpoint of random bfloat16
weights (layers of 896, 8,000 tokens), beyond the weights that it holds at the end. A step: XLA's
plan, besides weights, adapters and moments, of rank-8 LoRA with AdamW, for one row of 128 tokens in
the shape of Llama 2 7B, narrower and with fewer layers; nothing is run. A step "dequantized once"
keeps each float kernel for the backward pass.

    python -m benchmarks four_bit_memory

It takes about 5 minutes on 2 cores. Expect a step in 4 bits to need hardly more with more layers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import real_size
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
CASES = tuple(
    Case(f"{layers}-layers", f"{layers} layers", {"layers": layers, "width": 512, "length": 128})
    for layers in (4, 10)
)
# The checkpoint; with 10 layers it has 156 million parameters, 313 MB.
SHAPE = {"vocab_size": 8_000, "bos_token_id": 1, "eos_token_id": 2}


def read(form: str, settings: Settings) -> dict[str, Any]:
    """The memory of reading a checkpoint in a form; "float32": as for training all weights."""
    import tfx_transformer as tfx

    layers = settings["layers"]
    folder = Path(settings["work"], f"four_bit_memory_{layers}")
    if not (folder / "model.safetensors").exists():
        real_size.write(folder, real_size.CONFIG | SHAPE | {"num_hidden_layers": layers})
    # A small model first: the memory of the frameworks is not the model's.
    small = tfx.CausalLM(tfx.TransformerConfig.of_size("nano", 300, "llama"))
    tfx.add_adapters(small, base_dtype="nf4")
    before = real_size.peak_bytes()
    begin = time.monotonic()
    base_dtype = None if form == "float32" else form
    model, _ = tfx.from_pretrained(folder, max_length=512, base_dtype=base_dtype)
    weights = sum(np.asarray(weight).nbytes for weight in model.weights)
    rise = real_size.peak_bytes() - before
    return {**_megabytes(weights, rise - weights), "seconds": round(time.monotonic() - begin, 1)}


def step(form: str, settings: Settings) -> dict[str, Any]:
    """XLA's plan of a step; "nf4-once": the gradient does not dequantize again."""
    from tfx_transformer.layers import four_bit

    four_bit.quantize = _nothing
    if form == "nf4-once":
        four_bit.multiply = _multiply_once
    begin = time.monotonic()
    base_dtype = None if form == "float32" else "nf4"
    plan = _plan(settings["layers"], settings["width"], settings["length"], base_dtype)
    found = _megabytes(plan.argument_size_in_bytes, plan.temp_size_in_bytes)
    return {**found, "seconds": round(time.monotonic() - begin, 1)}


def _megabytes(weights: float, besides: float) -> dict[str, float]:
    return {"weights, MB": round(weights / 1e6, 1), "besides, MB": round(besides / 1e6, 1)}


def _nothing(kernel, levels=None):
    """Return zeros of the shapes that `four_bit.quantize` returns."""
    from tfx_transformer.layers import four_bit

    blocks = -(-kernel.size // four_bit.BLOCK)
    ranges = np.zeros((-(-blocks // four_bit.GROUP), 2), "float32")
    return np.zeros(blocks * four_bit.BLOCK // 2, "uint8"), np.zeros(blocks, "uint8"), ranges


def _multiply_once(x, codes, scales, ranges, shape):
    """Return what `four_bit.multiply` does, with the gradients of the framework."""
    from keras import ops

    from tfx_transformer.layers import four_bit

    return ops.matmul(x, ops.cast(four_bit.dequantize(codes, scales, ranges, shape), x.dtype))


def _plan(layers: int, width: int, length: int, base_dtype: str | None):
    """Return XLA's analysis of the memory of a step, for one row of a batch."""
    import jax
    import jax.numpy as jnp
    import keras

    import tfx_transformer as tfx

    sizes = {
        "num_layers": layers,
        "hidden_dim": width,
        "num_heads": width // 128,
        "intermediate_dim": 11_008 * width // 4096,
        "max_sequence_length": length,
        "tie_embeddings": False,
        "dropout": 0.0,
    }
    config = tfx.TransformerConfig.of_size("base", 32_000 * width // 4096, "llama", **sizes)
    with keras.StatelessScope(initialize_variables=False):
        model = tfx.CausalLM(config)
        for weight in model.weights:
            if "seed_generator" not in weight.path:
                weight._initializer = lambda shape, dtype=None: np.zeros(shape, dtype)
        tfx.add_adapters(model, rank=8, base_dtype=base_dtype)

    def loss_of(trained, frozen, ids):
        logits, _ = model.stateless_call(trained, frozen, {"token_ids": ids}, training=True)
        likely = jax.nn.log_softmax(logits[:, :-1].astype("float32"))
        return -jnp.mean(jnp.take_along_axis(likely, ids[:, 1:, None], -1))

    def train(trained, first, second, frozen, ids):
        slopes = jax.grad(loss_of)(trained, frozen, ids)
        first = [0.9 * m + 0.1 * g for m, g in zip(first, slopes, strict=True)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, slopes, strict=True)]
        change = [m / (jnp.sqrt(v) + 1e-8) for m, v in zip(first, second, strict=True)]
        trained = [w - 1e-3 * c for w, c in zip(trained, change, strict=True)]
        return trained, first, second

    trained, frozen = (
        [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in weights]
        for weights in (model.trainable_variables, model.non_trainable_variables)
    )
    ids = jax.ShapeDtypeStruct((1, length), "int32")
    compiled = jax.jit(train, donate_argnums=(0, 1, 2)).lower(*[trained] * 3, frozen, ids).compile()
    return compiled.memory_analysis()


def _system(name: str, title: str, measure: Callable, form: str, on_jax: bool) -> System:
    build = functools.partial(measure, form)
    packages = ("jax", "keras") if on_jax else OURS
    return System(name, title, build, packages, {"KERAS_BACKEND": "jax"} if on_jax else KERAS)


SYSTEMS = (
    _system("tfx-read-float32", "read, float32", read, "float32", False),
    _system("tfx-read-int8", "read, int8", read, "int8", False),
    _system("tfx-read-nf4", "read, nf4", read, "nf4", False),
    _system("tfx-step-float32", "a step, float32", step, "float32", True),
    _system("tfx-step-nf4", "a step, nf4", step, "nf4", True),
    _system("tfx-step-nf4-once", "a step, nf4, dequantized once", step, "nf4-once", True),
)
