"""Training: `fit`, optimizer and schedule, callbacks, checkpoints, and what a run leaves."""

from tfx_transformer.training.augmentation import augmented
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
    "augmented",
    "new_bundle_path",
    "objective",
    "rounds",
    "set_random_seed",
]
