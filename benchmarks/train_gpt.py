"""Training speed of a decoder-only model.

One AdamW step on 12 rows, GPT-2's architecture with random weights, no dropout; trained tokens per
second. Keras trains by `fit` on one repeated batch.

    python -m benchmarks train_gpt --rounds 3

It takes about 10 minutes on 2 cores. Expect ours and keras-hub's alike with XLA, and mixed bfloat16
to lead where the processor multiplies it.
"""

from __future__ import annotations

import numpy as np

from benchmarks import shapes
from benchmarks.tables import Case, Settings
from benchmarks.train_systems import keras_step, keras_systems, torch_step, torch_systems

UNIT = "tokens/s"
ROWS = 12

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


def fit(settings: Settings, build, jit_compile: bool | str, policy: str):
    """`fit` of the model and the loss that `build` makes."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model, loss = build(shapes.GPTS[settings["gpt"]])
    ids, labels = batch(settings)
    features = {"token_ids": ids}
    if build is keras_hub_model:
        features["padding_mask"] = np.ones_like(ids)
    train = keras_step(model, loss, jit_compile, features, labels, settings["steps"])

    def step() -> int:
        train()
        return settings["steps"] * ids.size

    return step


def torch_model(settings: Settings, compiled: bool, bfloat16: bool):
    """A plain training loop around Hugging Face's GPT-2."""
    torch = shapes.torch_with(settings["threads"])
    model = shapes.GPTS[settings["gpt"]].transformers_model().train()
    ids, labels = (torch.from_numpy(array.copy()).long() for array in batch(settings))

    def loss_of():
        logits = model(ids, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    train = torch_step(torch, [*model.parameters()], loss_of, settings["steps"], compiled, bfloat16)

    def step() -> int:
        train()
        return settings["steps"] * ids.numel()

    return step


def share(settings: Settings, system: str) -> tuple[str, float]:
    """Six operations for each weight and token, as a float32 product does them."""
    return "gemm", 6e-9 * shapes.GPTS[settings["gpt"]].weights


SYSTEMS = (
    *keras_systems(
        fit,
        ("tfx", "ours, Keras", tfx_model, ()),
        ("keras-hub", "keras-hub", keras_hub_model, ("keras-hub",)),
    ),
    *torch_systems(
        "torch-transformers", "Hugging Face, PyTorch", torch_model, ("torch", "transformers")
    ),
)
