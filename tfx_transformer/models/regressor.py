"""A model that gives a text a number, in the units of the data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.models.encoders import PooledModel


@serializable
class Regressor(PooledModel):
    """A number for each text, such as its price or its rating; see `PooledModel`.

    It is trained on standardized numbers, (y - mean) / deviation; `in_units` makes a model of it
    that answers in the units of the data.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Call arguments:
        inputs: see `encode`; or the token ids alone.

    Returns: float (batch, 1).

    Raises:
        InputError: the model would read images.
    """

    task = "regression"
    gives_number = True
    has_steady_loss = False  # a number far from all others has a large squared error

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        if self.config.image_size:
            raise InputError("a regressor reads texts, not images.\n  Choose a base that does.")

    @classmethod
    def count_outputs(cls, config: TransformerConfig) -> int:
        """See `PooledModel`: one."""
        return 1

    def compile(
        self,
        optimizer: Any = "adamw",
        loss: Any = "squared",
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """`keras.Model.compile`.

        Args:
            loss: "squared" error, whose best answer is a mean; "absolute" error, whose best answer
                is a median, so that rare extreme numbers count less; or a loss of Keras.
        """
        if isinstance(loss, str):
            loss = _LOSSES.get(loss, lambda: loss)()
        super().compile(optimizer, loss=loss, weighted_metrics=weighted_metrics, **kwargs)


_LOSSES = {
    "squared": keras.losses.MeanSquaredError,
    "absolute": keras.losses.MeanAbsoluteError,
}


def in_units(model: Regressor, mean: float, deviation: float) -> Regressor:
    """Return a float32 model that answers in the units of the data: mean + deviation * output.

    Both are folded into the last layer, so that every export answers in these units.

    Args:
        model: trained on standardized numbers, without adapters.
        mean, deviation: mean and standard deviation that standardized them.
    """
    made = Regressor(model.config, dtype="float32")
    trained = {weight.path: weight for weight in model.weights}
    for weight in made.weights:
        if "seed_generator" in weight.path:
            continue
        values = np.asarray(keras.ops.convert_to_numpy(trained[weight.path].value), "float64")
        if weight.path.startswith("logits/"):
            values = deviation * values
        if weight.path == "logits/bias":
            values = mean + values
        weight.assign(values)
    return made
