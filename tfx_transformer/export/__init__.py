"""Trained models to files that run elsewhere, each checked against the model it came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tfx_transformer import bundle
from tfx_transformer.export.litert import litert
from tfx_transformer.export.litertlm import litertlm
from tfx_transformer.export.saved_model import saved_model
from tfx_transformer.export.verify import verify

__all__ = ["everything", "litert", "litertlm", "saved_model", "verify"]

# Enough to show a difference; `tfx-transformer export --check` takes a whole file.
_SENTENCES = 200


def everything(path: str | os.PathLike, inputs: Sequence, beams: int = 4) -> dict[str, Any]:
    """Adds SavedModel, TFLite float32 and int8 and `run.pyz` to a bundle, of a decoder-only model
    also `.litertlm`, and verifies them on the first of the given texts or image files. Returns what
    `verify` returns. A classifier of several texts a row gets no SavedModel."""
    config = bundle.read_config(path)
    if config["task"] == "masked":
        print("A masked model is a base: fine-tune it with --base. It is not exported.")
        return {}
    causal = config["task"] == "causal"
    first = "" if config.get("text_columns", 1) > 1 else "SavedModel, "
    also = ", .litertlm" if causal else ""
    print(f"Exporting {path}/: {first}TFLite float32 and int8{also}, run.pyz")
    if first:
        saved_model(path)
    litert(path, beams=beams)
    litert(path, quantize="int8", beams=beams)
    if causal:
        litertlm(path)
    return verify(path, list(inputs)[:_SENTENCES])
