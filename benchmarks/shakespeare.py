"""A language model at nanoGPT's CPU size.

tinyshakespeare, 4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps, no dropout, AdamW
with warm-up and cosine decay: the settings of nanoGPT's README and
`config/train_shakespeare_char.py`, which give 1.88. Ours reads bytes, PyTorch's characters, which
are the same in this text. Loss in nats over every validation character but the first.

    python -m benchmarks shakespeare --data DATA

It takes about 6 minutes on 2 cores. Expect 1.85 in GPT-2's style and 1.63 in Llama's, whose gated
feed-forward layer has 1.3 times the parameters.
"""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path

import numpy as np

from benchmarks import commands, shapes
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
CONTEXT, BATCH, STEPS, WARMUP, RATE = 64, 12, 2000, 100, 1e-3
FILES = ("lm/tinyshakespeare_train.txt", "lm/tinyshakespeare_val.txt")
CASES = (Case("tinyshakespeare", "tinyshakespeare, 2,000 steps", {}, FILES),)
TRAINING = (
    *("--text", f"DATA/{FILES[0]}", "--validation", f"DATA/{FILES[1]}"),
    *("--layers", "4", "--heads", "4", "--width", "128", "--vocabulary-size", "262"),
    *("--context", "64", "--batch-size", "12", "--steps", "2000", "--validate-every", "500"),
    *("--warmup-steps", "100", "--weight-decay", "0.1", "--dropout", "0"),
)


def recipe(settings: Settings, style: str, rate: str) -> dict[str, float]:
    """`tfx-transformer run pretraining`."""
    flags = ("--style", style, "--learning-rate", rate)
    bundle = commands.bundle(settings, "pretraining", f"nanogpt-{style}", *TRAINING, *flags)
    [held_out] = commands.data(settings, [f"DATA/{FILES[1]}"])
    found = commands.tool(settings, "evaluate", bundle, held_out)
    return {"validation loss": found["loss"], "training, minutes": commands.minutes(bundle)}


def new_torch_model(torch, vocabulary: int):
    """Pre-norm blocks, learned positions, a tied output: float (rows, length, vocabulary)."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = torch.nn.Embedding(vocabulary, 128)
            self.positions = torch.nn.Embedding(CONTEXT, 128)
            block = torch.nn.TransformerEncoderLayer(
                128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            norm = torch.nn.LayerNorm(128)
            self.blocks = torch.nn.TransformerEncoder(block, 4, norm, enable_nested_tensor=False)
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=0.02)

        def forward(self, ids):
            length = ids.shape[1]
            mask = torch.nn.Transformer.generate_square_subsequent_mask(length)
            vectors = self.tokens(ids) + self.positions.weight[:length]
            vectors = self.blocks(vectors, mask=mask, is_causal=True)
            return torch.nn.functional.linear(vectors, self.tokens.weight)

    return Model()


def torch_training(settings: Settings) -> dict[str, float]:
    """nanoGPT's training in PyTorch, with its schedule and clipping."""
    torch = shapes.torch_with(settings["threads"])
    texts = [Path(settings["data"], name).read_text(encoding="utf-8") for name in FILES]
    alphabet = {character: index for index, character in enumerate(sorted(set("".join(texts))))}
    train, held_out = (torch.tensor([alphabet[c] for c in text]) for text in texts)
    if settings["quick"]:
        held_out = held_out[:1000]
    model = new_torch_model(torch, len(alphabet))
    optimizer = torch.optim.AdamW(
        model.parameters(), RATE, (0.9, 0.99), weight_decay=0.1, fused=True
    )

    def loss_of(ids):
        logits = model(ids[:, :-1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    numbers = np.random.default_rng(0)
    begin = time.perf_counter()
    for step in range(20 if settings["quick"] else STEPS):
        done = max(step - WARMUP, 0) / (STEPS - WARMUP)
        decayed = 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / WARMUP, decayed)
        starts = numbers.integers(0, len(train) - CONTEXT - 1, BATCH)
        loss = loss_of(torch.stack([train[start : start + CONTEXT + 1] for start in starts]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - begin
    model.eval()
    total = count = 0
    with torch.no_grad():
        for start in range(0, len(held_out) - 1, CONTEXT):
            ids = held_out[None, start : start + CONTEXT + 1]
            total += float(loss_of(ids)) * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    return {
        "validation loss": round(total / count, 4),
        "training, minutes": round(seconds / 60, 1),
    }


SYSTEMS = (
    System(
        "tfx-gpt2",
        "ours, GPT-2 style, nanoGPT's settings",
        functools.partial(recipe, style="gpt2", rate="1e-3"),
        OURS,
        KERAS,
    ),
    System(
        "tfx-llama",
        "ours, Llama style, learning rate 3e-3",
        functools.partial(recipe, style="llama", rate="3e-3"),
        OURS,
        KERAS,
    ),
    System("torch", "nanoGPT's training in PyTorch", torch_training, ("torch",)),
)
