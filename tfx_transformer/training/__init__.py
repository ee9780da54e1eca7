"""What `fit` needs around it: optimizer and schedule, callbacks, and the record of a run."""

from keras.utils import set_random_seed

from tfx_transformer.training.callbacks import Previews, Progress, TimeLimit
from tfx_transformer.training.optimizers import InverseSquareRoot, adamw
from tfx_transformer.training.run import Run, new_bundle_path, rounds

__all__ = [
    "InverseSquareRoot",
    "Previews",
    "Progress",
    "Run",
    "TimeLimit",
    "adamw",
    "new_bundle_path",
    "rounds",
    "set_random_seed",
]
