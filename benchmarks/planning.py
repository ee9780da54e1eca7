"""The memory of a step: what `tfx-transformer plan` computes, and what is measured.

XLA: its plan of the step that `fit` makes, besides weights and moments, on JAX, where XLA schedules
for little memory, as on a GPU; nothing is run (`compiled_step`). TensorFlow: how far the memory of
a process rises in three steps of training, compiled by XLA, beyond weights and moments. The formula
was not fitted to these shapes and lengths, but to those of tests/test_plan.py. "planned" is
gradients and activations.

    python -m benchmarks planning

It takes about 8 minutes on 2 cores. Expect errors of up to a half by XLA. Those by TensorFlow are
larger, since a process also holds the memory of the compiler.
"""

from __future__ import annotations

import functools
from typing import Any

from benchmarks import compiled_step, real_size
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
# Title, style, sizes, vocabulary, rows, length, precision, base dtype.
SHAPES: dict[str, tuple[str, str, dict[str, Any], int, int, int, str, str]] = {
    "gpt2": ("GPT-2, 6 layers of 384", "gpt2", {"num_layers": 6, "num_heads": 6,
             "hidden_dim": 384, "intermediate_dim": 1_536}, 8_000, 8, 256, "float32", ""),
    "grouped": ("Llama, 8 layers of 256, grouped", "llama", {"num_layers": 8, "num_heads": 8,
                "hidden_dim": 256, "intermediate_dim": 688, "num_key_value_heads": 2},
                4_000, 2, 1_024, "float32", ""),
    "mixed": ("Llama, 6 layers of 320", "llama", {"num_layers": 6, "num_heads": 5,
              "hidden_dim": 320, "intermediate_dim": 864}, 6_000, 4, 384, "mixed_bfloat16", ""),
    "bert": ("BERT, 5 layers of 256", "bert", {"num_layers": 5, "num_heads": 4, "hidden_dim": 256,
             "intermediate_dim": 1_024}, 5_000, 16, 64, "float32", ""),
    "wide": ("Llama, 2 layers of 1,024", "llama", {"num_layers": 2, "num_heads": 16,
             "hidden_dim": 1_024, "intermediate_dim": 2_752}, 1_000, 4, 192, "float32", ""),
    "nf4": ("Llama, 4 layers of 512, LoRA on nf4", "llama", {"num_layers": 4, "num_heads": 8,
            "hidden_dim": 512, "intermediate_dim": 1_376}, 4_000, 4, 256, "float32", "nf4"),
}  # fmt: skip
# The sizes of "grouped", in steps that compute in chunks, in parts or again.
# Title, rows, length, vocabulary, precision, rematerialisation, parts.
LONG: dict[str, tuple[str, int, int, int, str, bool, int]] = {
    "chunks": ("vocabulary of 50,000", 4, 512, 50_000, "float32", False, 1),
    "blocks": ("blocks of attention", 2, 2_048, 4_000, "float32", False, 1),
    "mixed-blocks": ("blocks of attention", 2, 2_048, 4_000, "mixed_bfloat16", False, 1),
    "remat": ("--remat", 2, 2_048, 4_000, "float32", True, 1),
    "all": ("vocabulary of 50,000, --remat", 4, 2_048, 50_000, "float32", True, 1),
    "parts": ("--accumulate 4", 8, 1_024, 4_000, "float32", False, 4),
}
CASES = (Case("step", "a training step", {}),)


def measured(settings: Settings, shape: str, by: str) -> dict[str, Any]:
    """The planned and the measured memory of a step, and the error of the plan."""
    from tfx_transformer import TransformerConfig, planning
    from tfx_transformer.models.saving import TASKS
    from tfx_transformer.models.work import sizes

    style, dimensions, vocabulary, rows, length, precision, base_dtype, remat, parts = step(shape)
    cls = TASKS["masked" if style == "bert" else "causal"]
    options = {**dimensions, "dropout": 0.0, "max_sequence_length": length}
    config = TransformerConfig.of_size("nano", vocabulary, style, **options)
    backend = "jax" if by == "xla" else "tensorflow"
    training = planning.Training(precision, base_dtype, remat=remat, backend=backend)
    counts = sizes(cls, config, training)
    plan = planning.memory(config, counts, rows // parts, length, training, parts)
    planned = plan.gradients + plan.activations
    if by == "xla":
        found = compiled_step.held_by_step(
            lambda: cls(config, dtype=precision), rows, length, parts, remat, base_dtype
        ).besides
    else:
        model = new_model(cls, config, precision, base_dtype)
        found = by_tensorflow(model, rows, length)
    return {
        "planned, MB": round(planned / 1e6, 1),
        "measured, MB": round(found / 1e6, 1),
        "error": f"{planned / found - 1:+.0%}",
        "error of all memory": f"{plan.all / (plan.weights + plan.optimizer + found) - 1:+.0%}",
    }


def step(shape: str) -> tuple[Any, ...]:
    """The settings of a shape: style, sizes, vocabulary, rows, length, precision, base dtype,
    rematerialisation and parts."""
    if shape in SHAPES:
        return (*SHAPES[shape][1:], False, 1)
    _, rows, length, vocabulary, precision, remat, parts = LONG[shape]
    _, style, dimensions, *_ = SHAPES["grouped"]
    return style, dimensions, vocabulary, rows, length, precision, "", remat, parts


def new_model(cls, config, precision: str, base_dtype: str):
    """A model to train."""
    import tfx_transformer as tfx

    model = cls(config, dtype=precision)
    if base_dtype:
        tfx.add_adapters(model, rank=8, base_dtype=base_dtype)
    return model


def batch_of(model, rows: int, length: int):
    """Inputs, labels and weights of a batch."""
    import numpy as np

    random = np.random.default_rng(1)
    ids = random.integers(5, model.config.vocabulary_size, (rows, length + 1)).astype("int32")
    if model.task == "causal":
        return {"token_ids": ids[:, :-1]}, ids[:, 1:]
    places = np.tile(np.arange(length, dtype="int32"), (rows, 1))
    return {"token_ids": ids[:, :-1], "masked_positions": places}, ids[:, 1:]


def by_tensorflow(model, rows: int, length: int) -> float:
    """Return the rise of this process's peak memory in three steps, in bytes. The optimizer's
    moments are there before."""
    import tfx_transformer as tfx

    model.compile(tfx.training.adamw(1e-3), jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    small = batch_of(model, 1, 8)
    model.train_on_batch(*small)  # the memory of tracing and compiling is not the step's
    before = real_size.peak_bytes()
    for _ in range(3):
        model.train_on_batch(*batch_of(model, rows, length))
    return real_size.peak_bytes() - before


TITLES = {
    **{
        name: f"{shape[0]}, {shape[4]} texts of {shape[5]:,}, {shape[6]}"
        for name, shape in SHAPES.items()
    },
    **{
        name: f"Llama, 8 layers of 256, {rows} texts of {length:,}, {precision}, {title}"
        for name, (title, rows, length, _, precision, *_) in LONG.items()
    },
}
SYSTEMS = tuple(
    System(
        f"tfx-{by}-{name}",
        f"{TITLES[name]}, by {title}",
        functools.partial(measured, shape=name, by=by),
        ("jax", "keras") if by == "xla" else OURS,
        compiled_step.ENVIRONMENT if by == "xla" else KERAS,
    )
    for by, title in (("xla", "XLA"), ("tensorflow", "TensorFlow"))
    for name in TITLES
    if by == "xla" or name in SHAPES
)
