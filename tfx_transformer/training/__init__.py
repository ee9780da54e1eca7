"""Training: `fit`, optimizer and schedule, callbacks, checkpoints, and what a run leaves."""

from typing import TYPE_CHECKING

from tfx_transformer.renamed import old_names
from tfx_transformer.training.augmentation import augment_images
from tfx_transformer.training.base import text_base
from tfx_transformer.training.callbacks import (
    Previews,
    Progress,
    ResumableCallback,
    TimeLimit,
)
from tfx_transformer.training.classification import ClassifierRun
from tfx_transformer.training.embedding import EmbedderRun
from tfx_transformer.training.objectives import objective
from tfx_transformer.training.optimizers import InverseSquareRoot, adamw
from tfx_transformer.training.run import Run, new_bundle_path, rounds
from tfx_transformer.training.seeds import set_random_seed

if not TYPE_CHECKING:  # a checker that sees it accepts every name
    __getattr__ = old_names(__name__, {"augmented": "augment_images"})

__all__ = [
    "ClassifierRun",
    "EmbedderRun",
    "InverseSquareRoot",
    "Previews",
    "Progress",
    "ResumableCallback",
    "Run",
    "TimeLimit",
    "adamw",
    "augment_images",
    "new_bundle_path",
    "objective",
    "rounds",
    "set_random_seed",
    "text_base",
]
