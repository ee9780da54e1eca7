"""Compares what transformers makes of the folders of save_models.py: see there.

A line for each case: how far its outputs of the saved folder are from those of the original one,
and from those of our model, which rounds in another order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

# Largest differences: from the original folder, and from our model.
MOST, OURS = 1e-5, 1e-4


def output(folder: Path, expected) -> tuple[np.ndarray, np.ndarray]:
    """What transformers computes, and which numbers of it count: none of padding."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sentence = (folder / "modules.json").is_file()
    kind = transformers.AutoModel if sentence else getattr(transformers, config["architectures"][0])
    model = kind.from_pretrained(folder).eval()
    with torch.no_grad():
        if "images" in expected:
            colours = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
            mean, deviation = (np.array(colours[f"image_{name}"], "f") for name in ("mean", "std"))
            pixels = (expected["images"].astype("float32") / 255 - mean) / deviation
            found = model(torch.tensor(pixels).permute(0, 3, 1, 2)).logits.numpy()
            return found, np.ones(found.shape, bool)
        ids, lengths = torch.tensor(expected["ids"], dtype=torch.long), expected["lengths"]
        inputs = {"input_ids": ids, "attention_mask": _mask(lengths, ids.shape[1])}
        if "target" in expected:
            inputs["decoder_input_ids"] = torch.tensor(expected["target"], dtype=torch.long)
            lengths = expected["target_lengths"]
        result = model(**inputs)
    if sentence:
        found = _sentence_vectors(folder, result.last_hidden_state, lengths)
        return found, np.ones(found.shape, bool)
    found = result.logits.numpy()
    if found.ndim == 2:
        return found, np.ones(found.shape, bool)
    counts = np.tile(_mask(lengths, found.shape[1]).numpy()[..., None] > 0, found.shape[-1])
    if config["model_type"] == "marian":  # that padding is never written stands in the logits here
        counts[..., config["pad_token_id"]] = False
    return found, counts


def _sentence_vectors(folder: Path, states: torch.Tensor, lengths: np.ndarray) -> np.ndarray:
    """What sentence-transformers makes of an encoder's vectors: the mean or the last, projections
    without bias and activation, length 1."""
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    mask = _mask(lengths, states.shape[1])[..., None]
    vectors = (states * mask).sum(1) / mask.sum(1)
    if pooling.get("pooling_mode_lasttoken") or pooling.get("pooling_mode") == "lasttoken":
        vectors = states[torch.arange(len(lengths)), torch.tensor(lengths) - 1]
    for file in sorted(folder.glob("*_Dense/model.safetensors")):
        vectors = vectors @ load_file(file)["linear.weight"].T
    return torch.nn.functional.normalize(vectors).numpy()


def _mask(lengths: np.ndarray, length: int) -> torch.Tensor:
    return (torch.arange(length) < torch.tensor(lengths)[:, None]).long()


def main(root: Path) -> int:
    worst = apart = 0.0
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        expected = dict(np.load(folder / "expected.npz"))
        if (folder / "images.npy").is_file():
            expected["images"] = np.load(folder / "images.npy")
        found, counts = output(folder, expected)
        original, _ = output(folder / "original", expected)
        changed = float(np.abs(found - original)[counts].max())
        error = float(np.abs(found - expected["output"])[counts].max())
        print(f"{folder.name:<24} {changed:.1e} {error:.1e}")
        worst, apart = max(worst, changed), max(apart, error)
    print(f"largest difference from the original {worst:.1e}, from our model {apart:.1e}")
    return int(worst > MOST or apart > OURS)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
