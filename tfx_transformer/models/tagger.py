"""A model that marks stretches of a text: names, places, dates."""

from __future__ import annotations

from typing import Any

import keras

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.layers import Linear
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.models import losses
from tfx_transformer.models.encoders import EncoderModel


@serializable
class Tagger(EncoderModel):
    """Gives every token of a text the logits of its tag, such as `B-PERSON`, `I-PERSON` or `O`.

    logits_i = W dropout(x_i) + b,  x = encoder(text)

    Devlin et al. (2019), section 5.3. `prediction.Tags` makes spans of the logits.

    Args:
        config: `TransformerConfig`, or its dictionary, with `num_classes`, the number of tags.

    Call arguments:
        inputs: see `encode`; or the token ids alone.

    Returns: float (batch, length, num_classes), logits of a softmax for every token.

    Raises:
        InputError: `num_classes` is below 2, or the model reads images.
    """

    task = "tagging"
    has_classes = True
    scores_tokens = False
    read_out = ("logits/",)

    @classmethod
    def fewest_parameters(cls, config: TransformerConfig) -> int:
        """See `TransformerModel`; the tags have a vector each."""
        return super().fewest_parameters(config) + config.num_classes * config.hidden_dim

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        config = self.config
        if config.image_size:
            raise InputError("a tagger reads texts, not images.\n  Choose a base that does.")
        if config.num_classes < 2:
            raise InputError(
                f"TransformerConfig: num_classes is {config.num_classes}.\n"
                "  A tagger has two tags or more: O, and those of a label."
            )
        self.token_dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)
        self.logits = Linear(config.num_classes, name="logits", dtype=self.dtype_policy)
        self._build_parts(self.encoder)
        self.logits.build((None, None, config.hidden_dim))

    def call(self, inputs, training=None):
        x, _ = self.encode(self.by_name(inputs), training=training)
        return self.logits(self.token_dropout(x, training=training))

    def compile(
        self,
        optimizer: Any = "adamw",
        loss: Any = None,
        weighted_metrics: Any = None,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """`keras.Model.compile`; by default with `TokenCrossentropy` and the accuracy of tags over
        the tokens that weigh."""
        super().compile(
            optimizer,
            loss=losses.TokenCrossentropy(label_smoothing) if loss is None else loss,
            weighted_metrics=[losses.TokenAccuracy()]
            if weighted_metrics is None
            else weighted_metrics,
            **kwargs,
        )
