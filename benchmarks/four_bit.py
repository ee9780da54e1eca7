"""Memory and loss of a training on a frozen base in 4 bits.

    python -m benchmarks.four_bit loss      # of fine-tuning, beside the float base; 3 seeds
    KERAS_BACKEND=jax python -m benchmarks.four_bit step   # of a compiled step

docs/scale.md has the figures.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

SEEDS = 3
# Of Student's t with two degrees of freedom: half the width of a 95 % interval, in standard errors.
STUDENT = 4.303


# Loss


def loss(arguments: argparse.Namespace) -> None:
    """Print the held-out loss of a fine-tuning on three forms of one base, and the differences.

    A model is trained on datasets/pretraining.txt and then frozen; rank-8 LoRA learns
    datasets/instructions.csv. All three share the seeds of adapters and batches. A base in 4 bits
    is the float model with dequantized kernels: its gradients are those of the stored one.
    """
    import tfx_transformer as tfx
    from tfx_transformer.layers import Linear

    data = tfx.data
    train = data.read_instructions(tfx.resources.dataset_path("instructions.csv"))
    held_out = data.read_instructions(tfx.resources.dataset_path("instructions_heldout.csv"))
    story = Path(tfx.resources.dataset_path("pretraining.txt")).read_text("utf-8")
    tokenizer = tfx.Tokenizer.train([story, *train.texts()], 1_000, tfx.ROLE_TOKENS)
    options = {"vocabulary_size": tokenizer.vocabulary_size, "dropout": 0.0}
    config = tfx.TransformerConfig.of_size(
        "nano", style="llama", num_layers=4, hidden_dim=128, max_sequence_length=64, **options
    )
    tfx.training.set_random_seed(1)
    base = tfx.CausalLM(config)
    base.compile(tfx.training.adamw(2e-3, 20, "cosine", arguments.base_steps))
    ids = np.array(tokenizer.encode(story))
    starts = np.random.default_rng(1).integers(0, len(ids) - 65, arguments.base_steps * 16)
    rows = ids[starts[:, None] + np.arange(65)].astype("int32")
    history = base.fit({"token_ids": rows[:, :-1]}, rows[:, 1:], batch_size=16, verbose=0).history
    print(f"base: mean loss {history['loss'][0]:.3f}", flush=True)
    kernels = {
        layer.path: np.array(layer.kernel)
        for layer in base._flatten_layers()
        if isinstance(layer, Linear)
    }
    template = tfx.ChatTemplate.of(tokenizer)
    found: dict[str, list[float]] = {"float32": [], "nf4": [], "int4": []}
    for seed in range(SEEDS):
        for form, losses in found.items():
            tfx.training.set_random_seed(seed)
            model = tfx.CausalLM(config)
            for weight, other in zip(model.weights, base.weights, strict=True):
                weight.assign(other)
            for layer in model._flatten_layers():
                if layer.path in kernels:
                    layer._kernel.assign(stored(kernels[layer.path], form))
            tfx.add_adapters(model, rank=8)
            model.compile(tfx.training.adamw(1e-2, 10, "cosine", arguments.steps))
            reading = {"batch_size": 16, "max_length": 64, "pack": True}
            batches = data.instructions(train, template, **reading, seed=seed)
            checks = data.instructions(held_out, template, **reading, shuffle=False)
            before = model.evaluate(checks, verbose=0, return_dict=True)["loss"]
            model.fit(batches.repeat(), steps_per_epoch=arguments.steps, verbose=0)
            losses.append(model.evaluate(checks, verbose=0, return_dict=True)["loss"])
            print(f"seed {seed} {form}: {before:.4f} -> {losses[-1]:.4f}", flush=True)
    for form in ("nf4", "int4"):
        rises = np.array(found[form]) - np.array(found["float32"])
        half = STUDENT * rises.std(ddof=1) / len(rises) ** 0.5
        print(f"{form}: {rises.mean():+.4f} ± {half:.4f} beside float32")


def stored(kernel: np.ndarray, form: str) -> np.ndarray:
    """Return a kernel as a base of this form multiplies by it; int4 has the levels -7/7 to 7/7."""
    from tfx_transformer.layers import four_bit

    if form == "float32":
        return kernel
    levels = four_bit.LEVELS if form == "nf4" else (np.arange(-8, 8) / 7).astype("float32")
    codes, scales, ranges = four_bit.quantize(kernel, levels)
    values = levels[np.stack([codes & 15, codes >> 4], -1)].reshape(-1, four_bit.BLOCK)
    values = (values * four_bit.scales_of(scales, ranges)[:, None]).reshape(-1)[: kernel.size]
    return values.reshape(kernel.T.shape).T


# A compiled step


def step(arguments: argparse.Namespace) -> None:
    """Print what XLA plans for a training step of rank-8 LoRA and AdamW on a base in the shape of
    Llama 2 7B, or of another width or fewer layers; no weight is made.

    Beside it stand the plans of a layer that does not dequantize again in the backward pass.
    """
    from tfx_transformer.layers import four_bit

    four_bit.quantize = _nothing
    again = four_bit.multiply
    for layers in arguments.layers:
        for multiply in (again, _multiply_once):
            four_bit.multiply = multiply
            begin = time.monotonic()
            plan = _plan(layers, arguments.width, arguments.length, arguments.dtype)
            print(
                f"{layers} layers of {arguments.width}, {arguments.length} tokens, "
                f"{arguments.dtype}, dequantized {'twice' if multiply is again else 'once'}: "
                f"weights, adapters and moments {plan.argument_size_in_bytes / 1e6:.1f} MB, beside "
                f"them {plan.temp_size_in_bytes / 1e6:.1f} MB; compiled in "
                f"{time.monotonic() - begin:.0f} s",
                flush=True,
            )


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


def _plan(layers: int, width: int, length: int, dtype: str):
    """Return XLA's analysis of the memory of a step, for one row of a batch."""
    import jax
    import jax.numpy as jnp
    import keras

    import tfx_transformer as tfx

    config = tfx.TransformerConfig.of_size(
        "base",
        32_000 * width // 4096,
        "llama",
        num_layers=layers,
        hidden_dim=width,
        num_heads=width // 128,
        intermediate_dim=11_008 * width // 4096,
        max_sequence_length=length,
        tie_embeddings=False,
        dropout=0.0,
    )
    with keras.StatelessScope(initialize_variables=False):
        model = tfx.CausalLM(config, dtype=dtype)
        for weight in model.weights:
            if "seed_generator" not in weight.path:
                weight._initializer = lambda shape, dtype=None: np.zeros(shape, dtype)
        tfx.add_adapters(model, rank=8, base_dtype="nf4")

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
    step = jax.jit(train, donate_argnums=(0, 1, 2)).lower(*[trained] * 3, frozen, ids)
    return step.compile().memory_analysis()


def main() -> None:
    reader = argparse.ArgumentParser(prog="python -m benchmarks.four_bit", description=__doc__)
    verbs = reader.add_subparsers(required=True)
    losses = verbs.add_parser("loss")
    losses.add_argument("--base-steps", type=int, default=400)
    losses.add_argument("--steps", type=int, default=80)
    losses.set_defaults(run=loss)
    steps = verbs.add_parser("step")
    steps.add_argument("--layers", type=int, nargs="+", default=[2, 4])
    steps.add_argument("--width", type=int, default=4096)
    steps.add_argument("--length", type=int, default=128)
    steps.add_argument("--dtype", default="float32")
    steps.set_defaults(run=step)
    arguments = reader.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    arguments.run(arguments)


if __name__ == "__main__":
    main()
