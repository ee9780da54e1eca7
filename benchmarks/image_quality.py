"""Classification of images.

The dogs, cats and birds of CIFAR-10, from scratch: 15,000 training images of 32 x 32, 3,000 of the
official test set. A compact convolutional Transformer of 6 layers of 128; a 25th of the training
images chooses the epoch. "drawn" are the images of this repository and needs no --data.

    python -m benchmarks image_quality --data DATA

It takes 2 minutes for "drawn" and 42 for "cifar10" on 2 cores. Expect 82 % of CIFAR-10's images
right.
"""

from __future__ import annotations

import functools

from benchmarks import commands
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
CIFAR = "images/cifar10_dcb_small"

CASES = (
    Case("drawn", "datasets/images", {"train": []}),
    Case(
        "cifar10",
        "dog, cat and bird of CIFAR-10",
        {
            "test": f"DATA/{CIFAR}/test.csv",
            "train": [
                *("--images", f"DATA/{CIFAR}/train.csv", "--image-size", "32"),
                *("--conv-layers", "3", "--layers", "6", "--epochs", "90", "--mix", "0.8"),
                *("--share", "0.04", "--batch-size", "128", "--warmup-steps", "300"),
                *("--average", "0.998", "--patience", "90"),
            ],
        },
        (CIFAR,),
    ),
)


def scores(settings: Settings, variant: str) -> dict[str, float]:
    name = "images-cifar10" if settings["train"] else "images-drawn"
    bundle = commands.bundle(settings, "image_classification", name, *settings["train"])
    default = str(commands.ROOT / "datasets" / "images" / "test")
    [test] = commands.data(settings, [settings.get("test", default)])
    flags = commands.engine_flags("litert", variant)
    found = commands.tool(settings, "evaluate", bundle, test, *flags)
    return {
        "right, %": 100 * found["accuracy"],
        "macro-F1, %": 100 * found["macro_f1"],
        "training, minutes": commands.minutes(bundle),
    } | commands.megabytes(bundle, "litert", variant)


SYSTEMS = tuple(
    System(
        f"tfx-litert-{variant}",
        f"TFLite {variant}",
        functools.partial(scores, variant=variant),
        OURS,
        KERAS,
    )
    for variant in ("float32", "int8", "full_int8")
)
