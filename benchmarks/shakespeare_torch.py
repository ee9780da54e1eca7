"""nanoGPT's CPU training in PyTorch: the time and the loss to compare `pretraining` with.

    python benchmarks/shakespeare_torch.py TRAIN.txt VALIDATION.txt

4 layers, 4 heads, 128 wide, context 64, batch 12, 2,000 steps, a token per character; AdamW at
1e-3, betas 0.9 and 0.99, weight decay 0.1, warm-up 100, cosine to a tenth, clipping at 1, no
dropout: nanoGPT's README and `config/train_shakespeare_char.py`. The model is the peers' plain GPT
(`TFX_PEERS`). Validation reads every character but the first once, in blocks of 64, as
`pretraining` does.
"""

import importlib
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, os.environ["TFX_PEERS"])
PlainGPT = importlib.import_module("plain_gpt").PlainGPT
CONTEXT, BATCH, STEPS, WARMUP, RATE = 64, 12, 2000, 100, 1e-3


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    texts = [Path(path).read_text(encoding="utf-8") for path in sys.argv[1:3]]
    alphabet = {character: index for index, character in enumerate(sorted(set("".join(texts))))}
    train, held_out = (torch.tensor([alphabet[c] for c in text]) for text in texts)
    model = PlainGPT(4, 128, 4, len(alphabet), CONTEXT)
    optimizer = torch.optim.AdamW(
        model.parameters(), RATE, (0.9, 0.99), weight_decay=0.1, fused=True
    )
    random = np.random.default_rng(0)
    begin = time.perf_counter()
    for step in range(STEPS):
        done = max(step - WARMUP, 0) / (STEPS - WARMUP)
        decayed = 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / WARMUP, decayed)
        starts = random.integers(0, len(train) - CONTEXT - 1, BATCH)
        ids = torch.stack([train[s : s + CONTEXT + 1] for s in starts])
        loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - begin
    total = count = 0
    with torch.inference_mode():
        for start in range(0, len(held_out) - 1, CONTEXT):
            ids = held_out[None, start : start + CONTEXT + 1]
            total += float(model(ids[:, :-1], ids[:, 1:])) * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    print(f"validation loss {total / count:.4f} nats per character, {seconds:.0f} s of training")


if __name__ == "__main__":
    main()
