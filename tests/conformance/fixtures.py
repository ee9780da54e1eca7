"""The files of make_models.py: the inputs and the answers of the reference."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

MODELS = Path(__file__).parent / "models"


@functools.cache
def fixture_of(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the description of a case and the reference's answers, by make_models.py."""
    described = json.loads((MODELS / f"{name}.json").read_text(encoding="utf-8"))
    with np.load(MODELS / f"{name}.npz") as arrays:
        return described, dict(arrays)


def padded(rows: list[list[int]], padding: int) -> np.ndarray:
    longest = max(map(len, rows))
    return np.array([row + [padding] * (longest - len(row)) for row in rows], "int32")


def inputs_of(model, name: str) -> dict[str, np.ndarray]:
    """Return the inputs of the reference, by the names of our model."""
    described, arrays = fixture_of(name)
    if described["task"] == "image":
        return {"images": arrays["images"].astype("float32")}
    rows = {
        key: padded(described["inputs"][key], model.config.padding_id)
        for key in ("token_ids", "decoder_token_ids")
        if key in described["inputs"]
    }
    if described["task"] == "seq2seq":
        rows["encoder_token_ids"] = rows.pop("token_ids")
    if described["task"] == "masked":
        everywhere = np.arange(rows["token_ids"].shape[1], dtype="int32")
        rows["masked_positions"] = np.tile(everywhere, (2, 1))
    return rows
