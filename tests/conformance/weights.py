"""Weights of the conformance models: each number is a function of its tensor's name and its place.

The fixtures hold names and shapes only; the test makes the same weights anew that the reference
answered with. Integers, sums, products and square roots alone make them, so they are the same to
the last bit with every NumPy on every machine.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

# Looked up, not multiplied with: tables, and vectors that stand beside a table's.
_EMBEDDING = re.compile(
    r"(embeddings?|embed_tokens|embed_positions|wte|wpe|shared|cls_token|distillation_token"
    r"|embed_in)"
    r"(\.weight)?$"
)
# Standard deviation of what a kernel makes of inputs that have 1, relative to the other kernels.
# Scores between queries and keys are to differ, so that it matters what a token looks at.
_GAINS = [
    (
        re.compile(
            r"(q_proj|k_proj|query|key|c_attn|[qk]_lin|attn\.[qk]|Wqkv|qkv_proj|query_key_value)\.weight$"
        ),
        1.75,
    ),
    (re.compile(r"(lm_head|relative_attention_bias|classifier(\.out_proj)?)\.weight$"), 2.5),
]


# Rotary settings of releases before 5; `rope_parameters` says them all.
OLD_ROPE = (
    "rope_theta",
    "rope_scaling",
    "rope_local_base_freq",
    "partial_rotary_factor",
    "rotary_pct",
    "rotary_emb_base",
    "global_rope_theta",
    "local_rope_theta",
)


def tensor(
    name: str,
    shape: Sequence[int],
    norm: float = 1.0,
    embedding: float = 0.5,
    gain: float = 0.8,
) -> np.ndarray:
    """The tensor of this name, float32: evenly distributed, biases from -0.1 to 0.1.

    Args:
        norm: what the weights of norms differ from by 0.2 at most; 0 where the model adds the 1.
        embedding: standard deviation of tables that are looked up.
        gain: standard deviation of what most kernels make of inputs that have 1.
    """
    centre = 0.0
    if name.endswith("bias"):
        most = 0.1
    elif _EMBEDDING.search(name):
        most = embedding * math.sqrt(3)
    elif len(shape) == 1:
        centre, most = norm, 0.2
    else:
        gain *= next((times for pattern, times in _GAINS if pattern.search(name)), 1.0)
        most = gain * math.sqrt(3 / _fan_in(name, shape))
    numbers = 2 * uniform(name, math.prod(shape)) - 1
    return (centre + most * numbers).astype("float32").reshape(shape)


def _fan_in(name: str, shape: Sequence[int]) -> int:
    """Inputs of a kernel: (out, in, …), but of GPT-2's own layer (in, out)."""
    return shape[0] if re.search(r"\.c_\w+\.weight$", name) else math.prod(shape[1:])


def uniform(name: str, count: int) -> np.ndarray:
    """float64 (count,) from 0 to 1, multiples of 2^-24: SplitMix64 (Steele et al. 2014, figure 17),
    begun where the name's checksum says."""
    start = np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
    z = (start + np.arange(1, count + 1, dtype="uint64")) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)) / 2.0**24


def write_checkpoint(folder: Path, fixture: dict[str, Any], shards: int = 1) -> Path:
    """Writes the folder that `save_pretrained` would, and returns it.

    Args:
        fixture: of a file in models/: its "config", "tensors" (shapes by name), "scales" (further
            arguments of `tensor`) and "files" (what else is in the folder) are read.
        shards: number of safetensors files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"config.json": fixture["config"], **fixture["files"]}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    tensors = {n: tensor(n, shape, **fixture["scales"]) for n, shape in fixture["tensors"].items()}
    for name in [name for name in tensors if "/" in name]:  # of a part with a file of its own
        part, _, own = name.partition("/")
        save_file({own: tensors.pop(name)}, folder / part / "model.safetensors", {"format": "pt"})
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder
    places = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        names = list(tensors)[shard::shards]
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = {
        "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
        "weight_map": places,
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder
