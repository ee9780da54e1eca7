"""Limits of the difference between an export and its model."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import bundle
from tfx_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of an export: enough equal answers, or numbers that are close enough.

    Attributes:
        share: smallest share of equal answers.
        logits: largest difference of a logit, or of a number, in standard deviations of all.
        probability: largest difference of a probability.
        cosine: smallest cosine of two vectors.
    """

    share: float
    logits: float
    probability: float
    cosine: float


# Garbage differs by several standard deviations. Long answers may all differ at some token although
# the logits are close, above all with 4-bit weights.
LIMITS = {
    "float32": Limits(share=0.9, logits=0.05, probability=0.01, cosine=0.999),
    "int8": Limits(share=0.9, logits=1.0, probability=0.2, cosine=0.95),
    "int4": Limits(share=0.75, logits=2.5, probability=0.4, cosine=0.8),
    # Integers only: just the labels are compared.
    "full_int8": Limits(share=0.98, logits=0.0, probability=0.0, cosine=1.0),
}

# Name of an export in results -> its name in a bundle.
FILES = {
    "SavedModel": bundle.SAVED_MODEL,
    **{f"TFLite {variant}": file for variant, file in bundle.LITERT.items()},
    "LiteRT-LM": bundle.LITERTLM,
    "MediaPipe": bundle.MEDIAPIPE,
}


def is_good(result: Mapping[str, Any], variant: str) -> bool:
    """Return True if an export answers as the model does, or if nothing could be compared.

    Args:
        result: result of `verify`; has "error" if the export could not be run.
        variant: number format of its weights.
    """
    if "error" in result:
        return False
    limits = LIMITS[variant]
    if "smallest_cosine" in result:
        return result["smallest_cosine"] >= limits.cosine
    identical = max(result["identical"], result.get("identical_to_tflite", 0))
    if result["of"]:
        if identical >= limits.share * result["of"]:
            return True
        if variant == "float32" and not identical:  # whatever the numbers are
            return False
    if "largest_logit_difference" in result:
        near = limits.logits * result["logit_deviation"]
        return result["largest_logit_difference"] <= near
    if "largest_probability_difference" in result:
        return result["largest_probability_difference"] <= limits.probability
    if "largest_difference" in result:
        return result["largest_difference"] <= limits.logits * result["deviation"]
    return not result["of"]


def remove(path: Path, names: Sequence[str]) -> None:
    """Remove exports from a bundle.

    Args:
        names: as in `FILES`.
    """
    with bundle.updating(path, ()) as folder:
        for name in names:
            place = folder / FILES[name]
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink()


def check(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if an export was removed in results of `verify`.

    Raises:
        InputError: an export was removed; the message names each.
    """
    removed = [f"{name}: {result['summary']}" for name, result in results.items()
               if result.get("removed")]  # fmt: skip
    if removed:
        raise InputError(
            "an export does not answer as the model does:\n  " + "\n  ".join(removed) + "\n"
            "  Export it again; in another format or precision (--to, --quantize) if that does not "
            "help."
        )


def variant_of(name: str, config: dict[str, Any]) -> str:
    """Return the name of the number format of an export's weights."""
    if name == "LiteRT-LM":
        return config.get("litertlm", {}).get("variant", "int8")
    if name == "MediaPipe":
        return config.get("mediapipe", {}).get("variant", "float32")
    return name.removeprefix("TFLite ") if name.startswith("TFLite ") else "float32"
