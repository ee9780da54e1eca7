"""Training speed of a decoder-only model.

One AdamW step on 12 rows, GPT-2's architecture with random weights, no dropout; trained tokens per
second. Keras trains by `fit` on one repeated batch.

    python -m benchmarks train_gpt --rounds 3

It takes about 10 minutes on 2 cores. Expect ours and keras-hub's alike with XLA, and mixed bfloat16
to lead where the processor multiplies it.
"""

from __future__ import annotations

import functools

import numpy as np

from benchmarks import shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = "tokens/s"
ROWS, RATE, DECAY = 12, 1e-3, 0.01

CASES = (
    Case(
        "nano",
        "4 layers of 128, 65 tokens, context 64",
        {"gpt": "nano", "steps": 40},
    ),
    Case(
        "small",
        "6 layers of 384, 8,192 tokens, context 256",
        {"gpt": "small", "steps": 2},
    ),
)


def batch(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Ids and the ids one step ahead: int32 (ROWS, context)."""
    gpt = shapes.GPTS[settings["gpt"]]
    ids = shapes.random_ids(ROWS, gpt.positions + 1, gpt.vocabulary)
    return ids[:, :-1], ids[:, 1:]


def tfx_model(gpt: shapes.GPT):
    from tfx_transformer import CausalLM, TokenCrossentropy

    return CausalLM(gpt.config()), TokenCrossentropy()


def keras_hub_model(gpt: shapes.GPT):
    import keras
    import keras_hub

    model = keras_hub.models.GPT2CausalLM(gpt.keras_hub_backbone(), preprocessor=None)
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(settings: Settings, build, jit_compile: bool, policy: str):
    """`fit` of the model and the loss that `build` makes."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model, loss = build(shapes.GPTS[settings["gpt"]])
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY)
    model.compile(optimizer, loss, weighted_metrics=[], jit_compile=jit_compile)
    ids, labels = batch(settings)
    features = {"token_ids": ids}
    if build is keras_hub_model:
        features["padding_mask"] = np.ones_like(ids)
    batches, steps = shapes.repeated(features, labels), settings["steps"]

    def step() -> int:
        history = model.fit(batches, steps_per_epoch=steps, verbose=0).history
        assert np.isfinite(history["loss"][-1])
        return steps * ids.size

    return step


def torch_model(settings: Settings, bfloat16: bool):
    """A plain training loop around Hugging Face's GPT-2, not compiled."""
    torch = shapes.torch_with(settings["threads"])
    model = shapes.GPTS[settings["gpt"]].transformers_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY, fused=True)
    ids, labels = (torch.from_numpy(array.copy()).long() for array in batch(settings))

    def step() -> int:
        for _ in range(settings["steps"]):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(ids, use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert np.isfinite(loss.item())
        return settings["steps"] * ids.numel()

    return step


def share(settings: Settings, system: str) -> tuple[str, float]:
    """Six operations for each weight and token, as a float32 product does them."""
    return "gemm", 6e-9 * shapes.GPTS[settings["gpt"]].weights


SYSTEMS = (
    *(
        System(
            f"{name}{suffix}",
            f"{title}{addition}{'**' if build is tfx_model else ''}",
            functools.partial(fit, build=build, jit_compile=jit_compile, policy=policy),
            packages,
            KERAS,
        )
        for name, title, build, packages in (
            ("tfx", "**ours, Keras", tfx_model, OURS),
            ("keras-hub", "keras-hub", keras_hub_model, ("keras-hub", *OURS)),
        )
        for suffix, addition, jit_compile, policy in (
            ("-bf16", ", mixed bfloat16", False, "mixed_bfloat16"),
            ("-xla", ", XLA", True, "float32"),
            ("", "", False, "float32"),
        )
    ),
    *(
        System(
            f"torch-transformers{suffix}",
            f"Hugging Face, PyTorch{addition}",
            functools.partial(torch_model, bfloat16=bfloat16),
            ("torch", "transformers"),
        )
        for suffix, addition, bfloat16 in (("-bf16", ", bfloat16", True), ("", "", False))
    ),
)
