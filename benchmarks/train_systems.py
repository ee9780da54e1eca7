"""The rows of the tables of training speed: each way in which Keras and PyTorch train a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import shapes
from benchmarks.tables import KERAS, OURS, System

Step = Callable[[], int]
JAX = {"KERAS_BACKEND": "jax"}
RATE, DECAY = 1e-3, 0.01

# Ends of the name and of the title, compiled by XLA, Keras's policy, environment, other packages.
_KERAS_WAYS = (
    ("-bf16", ", mixed bfloat16", False, "mixed_bfloat16", KERAS, ()),
    ("-xla", ", XLA", True, "float32", KERAS, ()),
    ("", "", False, "float32", KERAS, ()),
    ("-jax-bf16", ", JAX, mixed bfloat16", "auto", "mixed_bfloat16", JAX, ("jax",)),
    ("-jax", ", JAX", "auto", "float32", JAX, ("jax",)),
)
# Ends of the name and of the title, torch.compile, bfloat16.
_TORCH_WAYS = (
    ("-compiled-bf16", ", torch.compile, bfloat16", True, True),
    ("-bf16", ", bfloat16", False, True),
    ("-compiled", ", torch.compile", True, False),
    ("", "", False, False),
)


def keras_systems(
    fit: Callable[..., Step], *models: tuple[str, str, Callable[..., Any], Sequence[str]]
) -> Iterator[System]:
    """The rows of Keras models, on TensorFlow and on JAX.

    Args:
        fit: from the settings, `build`, `jit_compile` and `policy` to a step.
        models: name, title, `build` and packages of each; ours are printed bold.
    """
    for name, title, build, packages in models:
        bold = "**" if name.startswith("tfx") else ""
        for suffix, addition, jit_compile, policy, environment, others in _KERAS_WAYS:
            yield System(
                f"{name}{suffix}",
                f"{bold}{title}{addition}{bold}",
                functools.partial(fit, build=build, jit_compile=jit_compile, policy=policy),
                (*packages, *OURS, *others),
                environment,
            )


def torch_systems(
    name: str, title: str, build: Callable[..., Step], packages: Sequence[str]
) -> Iterator[System]:
    """The rows of a PyTorch model; `build` gets the settings, `compiled` and `bfloat16`."""
    for suffix, addition, compiled, bfloat16 in _TORCH_WAYS:
        yield System(
            f"{name}{suffix}",
            f"{title}{addition}",
            functools.partial(build, compiled=compiled, bfloat16=bfloat16),
            packages,
        )


def keras_step(
    model: Any, loss: Any, jit_compile: bool | str, features: Any, labels: np.ndarray, steps: int
) -> Callable[[], None]:
    """Compile a Keras model, and return a function that trains it for some steps by `fit`, on one
    repeated batch. Our models are trained by the AdamW of our recipes, which also clips the
    gradient and has its own defaults of beta_2 and epsilon; others by that of Keras."""
    import keras

    if type(model).__module__.startswith("tfx_transformer."):
        import tfx_transformer as tfx

        optimizer = tfx.training.adamw(RATE, decay="constant", weight_decay=DECAY)
    else:
        optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY)
    model.compile(optimizer, loss, weighted_metrics=[], jit_compile=jit_compile)
    batches = shapes.repeated(features, labels)

    def step() -> None:
        history = model.fit(batches, steps_per_epoch=steps, verbose=0).history
        assert np.isfinite(history["loss"][-1])

    return step


def torch_step(
    torch: Any,
    parameters: Sequence[Any],
    loss_of: Callable[[], Any],
    steps: int,
    compiled: bool,
    bfloat16: bool,
) -> Callable[[], None]:
    """Return a function that trains a PyTorch model for some steps on one batch.

    Args:
        loss_of: computes the loss of the batch.
        compiled: compute it by torch.compile.
    """
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=DECAY, fused=True)
    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step() -> None:
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = loss_of()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert np.isfinite(loss.item())

    return step
