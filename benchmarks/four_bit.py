"""The loss of fine-tuning on a base in 4 bits.

A model is trained on datasets/pretraining.txt and then frozen. Rank-8 LoRA learns
datasets/instructions.csv, with three seeds; the loss is that of the answers in
instructions_heldout.csv. Every row of the table has the same base, and for each seed the same
adapters and batches. A base in 4 bits is the float base with kernels that were stored in 4 bits and
dequantized: its gradients are those of the stored one (tests/test_four_bit.py). int4 has evenly
spaced levels. "more" is the mean difference from the float base, with a 95 % interval by Student's
t.

    python -m benchmarks four_bit

It takes about 4 minutes on 2 cores. Expect a difference of less than 0.1.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
# Half the width of a 95 % interval of three numbers, in standard errors (2 degrees of freedom).
STUDENT = 4.303
SEEDS = 3
CASES = (Case("instructions", "4 layers of 128, 3 seeds", {"base_steps": 400, "steps": 80}),)


def losses(settings: Settings, form: str) -> dict[str, Any]:
    """The held-out loss before and after fine-tuning on a base of this form."""
    steps = {name: 2 if settings["quick"] else settings[name] for name in ("base_steps", "steps")}
    tuning = Tuning(**steps)
    found = np.array([tuning.losses(form, seed) for seed in range(SEEDS)])
    before, after = found.mean(0)
    scores = {"loss before": round(before, 4), "loss": round(after, 4), "more": ""}
    if form != "float32":
        rises = found[:, 1] - [tuning.losses("float32", seed)[1] for seed in range(SEEDS)]
        half = STUDENT * rises.std(ddof=1) / SEEDS**0.5
        scores["more"] = f"{rises.mean():+.4f} ± {half:.4f}"
    return scores


class Tuning:
    """A trained base, and data to fine-tune it on."""

    def __init__(self, base_steps: int, steps: int) -> None:
        import tfx_transformer as tfx
        from tfx_transformer.layers import Linear

        data = tfx.data
        path = tfx.resources.dataset_path
        self.steps = steps
        self.train = data.read_instructions(path("instructions.csv"))
        self.held_out = data.read_instructions(path("instructions_heldout.csv"))
        story = Path(path("pretraining.txt")).read_text("utf-8")
        tokenizer = tfx.Tokenizer.train([story, *self.train.texts()], 1_000, tfx.ROLE_TOKENS)
        self.template = tfx.ChatTemplate.of(tokenizer)
        sizes = {"num_layers": 4, "hidden_dim": 128, "max_sequence_length": 64, "dropout": 0.0}
        config = tfx.TransformerConfig.of_size("nano", tokenizer.vocabulary_size, "llama", **sizes)
        tfx.training.set_random_seed(1)
        self.base = tfx.CausalLM(config)
        self.base.compile(tfx.training.adamw(2e-3, 20, "cosine", base_steps))
        ids = np.array(tokenizer.encode(story))
        starts = np.random.default_rng(1).integers(0, len(ids) - 65, base_steps * 16)
        rows = ids[starts[:, None] + np.arange(65)].astype("int32")
        self.base.fit({"token_ids": rows[:, :-1]}, rows[:, 1:], batch_size=16, verbose=0)
        self.kernels = {
            layer.path: np.array(layer.kernel)
            for layer in self.base._flatten_layers()
            if isinstance(layer, Linear)
        }

    def losses(self, form: str, seed: int) -> tuple[float, float]:
        """The held-out loss before and after fine-tuning."""
        import tfx_transformer as tfx

        tfx.training.set_random_seed(seed)
        model = tfx.CausalLM(self.base.config)
        for weight, other in zip(model.weights, self.base.weights, strict=True):
            weight.assign(other)
        for layer in model._flatten_layers():
            if layer.path in self.kernels:
                layer._kernel.assign(stored(self.kernels[layer.path], form))
        tfx.add_adapters(model, rank=8)
        model.compile(tfx.training.adamw(1e-2, 10, "cosine", self.steps))
        reading = {"batch_size": 16, "max_length": 64, "pack": True}
        batches = tfx.data.instructions(self.train, self.template, **reading, seed=seed)
        checks = tfx.data.instructions(self.held_out, self.template, **reading, shuffle=False)
        before = model.evaluate(checks, verbose=0, return_dict=True)["loss"]
        model.fit(batches.repeat(), steps_per_epoch=self.steps, verbose=0)
        return before, model.evaluate(checks, verbose=0, return_dict=True)["loss"]


def stored(kernel: np.ndarray, form: str) -> np.ndarray:
    """A kernel as a base of this form multiplies by it; int4 has the levels -7/7 to 7/7."""
    from tfx_transformer.layers import four_bit

    if form == "float32":
        return kernel
    levels = four_bit.LEVELS if form == "nf4" else (np.arange(-8, 8) / 7).astype("float32")
    codes, scales, ranges = four_bit.quantize(kernel, levels)
    values = levels[np.stack([codes & 15, codes >> 4], -1)].reshape(-1, four_bit.BLOCK)
    values = (values * four_bit.scales_of(scales, ranges)[:, None]).reshape(-1)[: kernel.size]
    return values.reshape(kernel.T.shape).T


SYSTEMS = tuple(
    System(f"tfx-{form}", title, functools.partial(losses, form=form), OURS, KERAS)
    for form, title in (("float32", "float32"), ("nf4", "nf4"), ("int4", "int4, even levels"))
)
