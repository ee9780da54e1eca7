"""The losses of recipes on Keras's backends.

Each recipe makes 20 steps on small tables of the repository, on TensorFlow and on JAX, from the
same weights. "difference" is without dropout and augmentation: the largest relative difference of
the mean loss after 1 to 20 steps. "with" has them as the recipe does by default: the mean loss of
20 steps, over five seeds that have batches and random numbers of their own. "mean difference" pairs
runs with the same batches, and has a 95 % interval by Student's t.

    python -m benchmarks backends

It takes about 15 minutes on 2 cores. Expect differences below 1e-4 without dropout, and intervals
that contain 0 with it, but for about one in twenty.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
SEEDS = 5
# Half the width of a 95 % interval of five numbers, in standard errors (4 degrees of freedom).
STUDENT = 2.776
CASES = tuple(
    Case(name.replace(" ", "-"), name, {"case": name})
    for name in (
        "classification",
        "consistency",
        "several labels",
        "few rows",
        "regression",
        "embedding",
        "scores",
        "tagging",
        "pretraining",
        "masked",
        "instructions",
        "lora",
        "dora",
        "tools",
        "preferences",
        "lora in 4 bits",
        "preferences in 4 bits",
        "translation",
        "images",
    )
)
JAX = {
    "KERAS_BACKEND": "jax",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}


def losses(settings: Settings, backend: str) -> dict[str, Any]:
    """The losses of a recipe; on JAX also the differences from those of TensorFlow, which must be
    measured first."""
    from benchmarks import recipe_steps

    folder = Path(settings["work"], "backends", settings["case"])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    weights, kept = Path("weights.npz").absolute(), Path("losses.json")
    if backend == "tensorflow":
        recipe_steps.write_tables(folder)
        weights.unlink(missing_ok=True)
    elif not kept.exists():
        raise FileNotFoundError("measure tfx-tensorflow first")
    seeds = range(2 if settings["quick"] else SEEDS)
    without = recipe_steps.first_losses(settings["case"], weights, f"{backend}-still")
    several = recipe_steps.losses_of_steps(settings["case"], weights, seeds, backend)
    ends = np.array([found[-1] for found in several])
    scores = {"without": f"{without[-1]:.4f}", "difference": "", "with": f"{ends.mean():.4f}"}
    if backend == "tensorflow":
        kept.write_text(json.dumps({"without": without, "ends": ends.tolist()}), "utf-8")
        return scores | {"mean difference": ""}
    theirs = json.loads(kept.read_text("utf-8"))
    apart = np.abs(np.array(without) / theirs["without"] - 1).max()
    rises = ends - theirs["ends"]
    half = STUDENT * rises.std(ddof=1) / len(rises) ** 0.5
    return scores | {
        "difference": f"{apart:.1e}",
        "mean difference": f"{rises.mean():+.4f} ± {half:.4f}",
    }


SYSTEMS = (
    System(
        "tfx-tensorflow", "TensorFlow", functools.partial(losses, backend="tensorflow"), OURS, KERAS
    ),
    System("tfx-jax", "JAX", functools.partial(losses, backend="jax"), ("jax", "keras"), JAX),
)
