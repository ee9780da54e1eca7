"""The memory of a base in 4 bits.

Reading: how far the memory of a process rises while it reads a checkpoint of random bfloat16
weights (layers of 896, 8,000 tokens), beyond the weights that it holds at the end. A step: XLA's
plan of the step that `fit` makes with rank-8 LoRA, besides weights, adapters and moments
(`compiled_step`); nothing is run. It is for one row of 128 tokens in the shape of Llama 2 7B,
narrower and with fewer layers; and for one row of 512 in that shape with 1 and 3 of its 32 layers,
with rematerialisation: the layers are alike, so what two more add tells what all 32 hold.
A step "dequantized once" keeps each float kernel for the backward pass.

    python -m benchmarks four_bit_memory

It takes about 6 minutes on 2 cores. Expect a step in 4 bits to need hardly more with more layers,
and less than 8 GB for all that a step of the whole shape holds.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import compiled_step, real_size
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
CASES = (
    *(
        Case(
            f"{layers}-layers",
            f"{layers} layers",
            {"layers": layers, "width": 512, "length": 128, "remat": False},
        )
        for layers in (4, 10)
    ),
    *(
        Case(
            f"7b-{layers}",
            f"{layers} of the 32 layers of Llama 2 7B",
            {"layers": layers, "width": 4096, "length": 512, "remat": True},
        )
        for layers in (1, 3)
    ),
)
# The checkpoint; with 10 layers it has 156 million parameters, 313 MB.
SHAPE = {"vocab_size": 8_000, "bos_token_id": 1, "eos_token_id": 2}


def read(form: str, settings: Settings) -> dict[str, Any]:
    """The memory of reading a checkpoint in a form; "float32": as for training all weights."""
    import tfx_transformer as tfx

    layers = settings["layers"]
    if settings["width"] > 1000:
        return {"weights, MB": ""}  # only its step is planned
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

    if settings["width"] > 1000 and form != "nf4":
        return {"weights, MB": ""}
    if form == "nf4-once":
        four_bit.multiply = _multiply_once
    begin = time.monotonic()
    layers, width, length = (settings[name] for name in ("layers", "width", "length"))
    held = compiled_step.held_by_step(
        functools.partial(_new_model, layers, width, length),
        1,
        length,
        remat=settings["remat"],
        base_dtype="float32" if form == "float32" else "nf4",
    )
    found = _megabytes(held.state, held.besides)
    return {**found, "seconds": round(time.monotonic() - begin, 1)}


def _megabytes(weights: float, besides: float) -> dict[str, float]:
    return {"weights, MB": round(weights / 1e6, 1), "besides, MB": round(besides / 1e6, 1)}


def _multiply_once(x, codes, scales, ranges, shape):
    """Return what `four_bit.multiply` does, with the gradients of the framework."""
    from keras import ops

    from tfx_transformer.layers import four_bit

    return ops.matmul(x, ops.cast(four_bit.dequantize(codes, scales, ranges, shape), x.dtype))


def _new_model(layers: int, width: int, length: int) -> Any:
    """A model in the shape of Llama 2 7B, which has 32 layers of width 4096."""
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
    vocabulary = 32_000 * width // 4096
    return tfx.CausalLM(tfx.TransformerConfig.of_size("base", vocabulary, "llama", **sizes))


def _system(name: str, title: str, measure: Callable, form: str, on_jax: bool) -> System:
    build = functools.partial(measure, form)
    packages = ("jax", "keras") if on_jax else OURS
    return System(name, title, build, packages, compiled_step.ENVIRONMENT if on_jax else KERAS)


SYSTEMS = (
    _system("tfx-read-float32", "read, float32", read, "float32", False),
    _system("tfx-read-int8", "read, int8", read, "int8", False),
    _system("tfx-read-nf4", "read, nf4", read, "nf4", False),
    _system("tfx-step-float32", "a step, float32", step, "float32", True),
    _system("tfx-step-nf4", "a step, nf4", step, "nf4", True),
    _system("tfx-step-nf4-once", "a step, nf4, dequantized once", step, "nf4-once", True),
)
