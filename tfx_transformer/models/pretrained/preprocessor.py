"""The preprocessing of images for a checkpoint: preprocessor_config.json, read and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfx_transformer.errors import InputError

# Pillow's numbers of filters, as in the file -> our names.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_OTHER_FILTERS = {4: "box", 5: "hamming"}

_HALF = [0.5] * 3
# The defaults of transformers' classes.
_VIT = {
    "resample": 2,
    "size": 224,
    "one_number": "square",  # meaning of a size that is one number
    "do_center_crop": False,
    "image_mean": _HALF,
    "image_std": _HALF,
}
_DEIT = _VIT | {"resample": 3, "size": 256, "do_center_crop": True, "crop_size": 224}
_CLIP = {
    "resample": 3,
    "size": 224,
    "one_number": "shortest_edge",
    "do_center_crop": True,
    "crop_size": 224,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_DEFAULTS = {"ViT": _VIT, "DeiT": _DEIT, "CLIP": _CLIP, "Bit": _CLIP}
# Steps of these classes that are implemented here, or that change nothing.
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The changes of an image before a checkpoint cuts it into patches.

    Attributes:
        resizing: see `TransformerConfig.image_resize`.
        factor, term: float32 (3, 1); the colour x (-1 to 1) of our models is factor * x + term in
            theirs.
    """

    resizing: dict[str, Any] | None
    factor: np.ndarray
    term: np.ndarray

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing of a config.json with "preprocessor"; without one, that of whole
        images with colours from -1 to 1.

        Raises:
            InputError: a step or a value is unknown; the message names it.
        """
        given = config.get("preprocessor")
        if given is None:
            return cls(None, np.ones((3, 1), "float32"), np.zeros((3, 1), "float32"))
        values = _defaults(given, config) | {k: v for k, v in given.items() if v is not None}
        for name, value in values.items():
            if name.startswith("do_") and name not in _STEPS and value:
                raise _refused(name, value, "false")
        rescale = _number(values, "rescale_factor", 1 / 255) if values["do_rescale"] else 1.0
        mean, deviation = 0.0, 1.0
        if values["do_normalize"]:
            mean, deviation = (_colours(values, name) for name in ("image_mean", "image_std"))
        # Ours are x = c / 127.5 - 1 for colours c from 0 to 255.
        factor = 127.5 * rescale / deviation * np.ones(3)
        term = (127.5 * rescale - mean) / deviation * np.ones(3)
        resizing = _resizing(values, config["image_size"])
        columns = (part.astype("float32")[:, None] for part in (factor, term))
        return cls(resizing, *columns)


def preprocessor_config(size: int, resizing: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return preprocessor_config.json of a model whose colours are from -1 to 1."""
    resizing = resizing or {"filter": "bilinear", "height": size, "width": size}
    return {
        "image_processor_type": "ViTImageProcessor" if _whole(resizing, size) else _CROPPING,
        "do_resize": True,
        "size": {name: value for name, value in resizing.items() if name != "filter"},
        "resample": next(n for n, name in _FILTERS.items() if name == resizing["filter"]),
        "do_center_crop": not _whole(resizing, size),
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _HALF,
        "image_std": _HALF,
    }


# The class that crops in older releases; ViT's does not.
_CROPPING = "CLIPImageProcessor"


def _whole(resizing: Mapping[str, Any], size: int) -> bool:
    return resizing.get("height") == resizing.get("width") == size


def _defaults(given: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    name = given.get("image_processor_type") or given.get("feature_extractor_type")
    kind = str(name or {"deit": "DeiT"}.get(config["model_type"], "ViT"))
    for ending in ("Pil", "Fast", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    if kind not in _DEFAULTS:
        raise InputError(
            f"preprocessor_config.json: images are prepared by {name!r}.\n"
            f"  Expected the image processor of one of {', '.join(_DEFAULTS)}."
        )
    return {"do_resize": True, "do_rescale": True, "do_normalize": True, **_DEFAULTS[kind]}


def _resizing(values: Mapping[str, Any], image_size: int) -> dict[str, Any]:
    if not values["do_resize"]:
        raise _refused("do_resize", False, "true: photographs are of any size")
    number = values["resample"]
    if number not in _FILTERS:
        raise _refused("resample", _OTHER_FILTERS.get(number, number), _named(_FILTERS.values()))
    size = _size(values, "size")
    if values["do_center_crop"]:
        crop = _size(values, "crop_size")
        if crop != {"height": image_size, "width": image_size}:
            raise _refused("crop_size", values["crop_size"], f"{image_size}, the image_size")
        if min(size.values()) < image_size:
            raise _refused("size", values["size"], f"{image_size} or more, to crop from it")
    elif size != {"height": image_size, "width": image_size}:
        raise _refused("size", values["size"], f"{image_size} x {image_size}, the image_size")
    return {"filter": _FILTERS[number], **size}


def _size(values: Mapping[str, Any], name: str) -> dict[str, int]:
    """Return height and width, or shortest_edge; older files have a single number."""
    size: Any = values.get(name)
    if isinstance(size, (list, tuple)) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if isinstance(size, int):
        edge = name == "size" and values["one_number"] == "shortest_edge"
        size = {"shortest_edge": size} if edge else {"height": size, "width": size}
    sizes = dict(size) if isinstance(size, Mapping) else {}
    known = set(sizes) in ({"height", "width"}, {"shortest_edge"})
    if not known or not all(type(n) is int and 1 <= n <= 8192 for n in sizes.values()):
        raise _refused(name, size, "a number, height and width, or shortest_edge")
    return sizes


def _number(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise _refused(name, value, "a number above 0")
    return float(value)


def _colours(values: Mapping[str, Any], name: str) -> np.ndarray:
    value = values[name]
    try:
        colours = np.broadcast_to(np.asarray(value, "float64"), (3,))
    except (TypeError, ValueError) as error:
        raise _refused(name, value, "a number for each of three colours") from error
    if not np.isfinite(colours).all() or (name == "image_std" and not (colours > 0).all()):
        raise _refused(name, value, "finite numbers, of image_std above 0")
    return colours


def _named(names) -> str:
    return f"one of {', '.join(names)}"


def _refused(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"preprocessor_config.json: {name} is {value!r}.\n  Expected {expected}.")
