"""Trained models to files that run elsewhere, each checked against the model it came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tfx_transformer import bundle
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.litert import Conversion, calibration_images, litert
from tfx_transformer.export.litertlm import litertlm, write_litertlm
from tfx_transformer.export.saved_model import saved_model, write_saved_model
from tfx_transformer.export.standalone import write_run_pyz
from tfx_transformer.export.transformers import transformers
from tfx_transformer.export.verify import verify
from tfx_transformer.models.saving import annotate, load

__all__ = ["everything", "litert", "litertlm", "saved_model", "transformers", "verify"]

# Share of labels by which an integer-only file may be kept.
_HOLDS = 0.98

# Enough to show a difference; `tfx-transformer export --check` takes a whole file.
_SENTENCES = 200


def everything(
    path: str | os.PathLike, inputs: Sequence, beams: int = 4, calibration: Sequence = ()
) -> dict[str, Any]:
    """Adds SavedModel, TFLite float32 and int8 and `run.pyz` to a bundle, of a decoder-only model
    also `.litertlm`, and verifies them on the first of the given texts or image files. Returns what
    `verify` returns.

    With image files for `calibration`, of the training set, an image classifier also gets a TFLite
    file of integers only; it is removed again if it does not label nearly all images as Keras does.
    """
    config = bundle.read_config(path)
    if config["task"] == "masked":
        print("A masked model is a base: fine-tune it with --base. It is not exported.")
        return {}
    causal = config["task"] == "causal"
    also = ", .litertlm" if causal else ""
    print(f"Exporting {path}/: SavedModel, TFLite float32 and int8{also}, run.pyz")
    with Converter() as converter:
        model, tokenizer = load(path)
        files = {None: bundle.LITERT["float32"], "int8": bundle.LITERT["int8"]}
        with bundle.updating(path) as folder:
            targets = {quantize: folder / file for quantize, file in files.items()}
            with Conversion(model, targets, converter, beams):
                write_saved_model(folder, model, tokenizer)
                write_run_pyz(folder)
            if causal:
                write_litertlm(folder, tokenizer, model.config, "int8")
            if calibration:
                images = calibration_images(model, calibration[:_SENTENCES])
                target = {"full_int8": folder / bundle.LITERT["full_int8"]}
                with Conversion(model, target, converter, images=images):
                    pass
    results = verify(path, list(inputs)[:_SENTENCES], model)
    if not calibration:
        return results
    whole = results["TFLite full_int8"]
    if whole["identical"] < _HOLDS * whole["of"]:
        print(f"  full_int8 is removed: fewer than {100 * _HOLDS:.0f} % of its labels are the same")
        del results["TFLite full_int8"]
        with bundle.updating(path) as folder:
            (folder / bundle.LITERT["full_int8"]).unlink()
        annotate(path, verified=results)
    return results
