"""What all models share: a configuration that tells every shape, and a way to be saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.layers import TokenEmbedding
from tfx_transformer.models import lora
from tfx_transformer.models.transformer import TransformerStack

# Place of `shuffle` among the arguments of `keras.Model.fit`.
_SHUFFLE = 8


class TransformerModel(keras.Model):
    """A Keras model made from a `TransformerConfig`, whose weights exist from the beginning.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Attributes:
        task: what a bundle calls this kind of model.
        read_out: what the paths of weights begin with that are new to every task.
        writes: True if it writes text, token by token.
        scores_tokens: True if it gives logits over the vocabulary, so that the embedding table is
            multiplied with, not only looked up.

    Raises:
        InputError: `dtype` is no dtype policy.
    """

    task = ""
    read_out: tuple[str, ...] = ()
    writes = False
    scores_tokens = True

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        try:
            super().__init__(**kwargs)
        except ValueError as error:  # a flag of the user: --precision
            raise InputError(
                f"the dtype policy is {kwargs.get('dtype')!r}: {error}\n"
                "  Expected one such as 'float32', 'bfloat16' or 'mixed_bfloat16'."
            ) from error
        self.config = TransformerConfig.from_dict(config) if isinstance(config, dict) else config

    def fit(self, *arguments: Any, **options: Any) -> keras.callbacks.History:
        """`keras.Model.fit`. Batches of `data`, and every other `tf.data.Dataset`, come in their
        own order, and Keras does not warn that it cannot shuffle them."""
        x = arguments[0] if arguments else options.get("x")
        if hasattr(x, "element_spec") and len(arguments) <= _SHUFFLE:
            options.setdefault("shuffle", False)
        return super().fit(*arguments, **options)

    @property
    def first_stack(self) -> TransformerStack:
        """The stack that reads the text or the image: the decoder where there is no encoder."""
        raise NotImplementedError

    def embedded_content(self, content: Tensor) -> Tensor:
        """Return what the first stack reads.

        Args:
            content: int (batch, length), token ids; or float (batch, image_size, image_size, 3) of
                a model that reads images.

        Returns: float (batch, length, embedding_dim).
        """
        return self.embedding(content)

    if TYPE_CHECKING:
        # Keras annotates neither: checkers would take `verbose`, whose default is "auto", for a
        # text.
        def evaluate(self, *arguments: Any, **options: Any) -> Any: ...

        def predict(self, *arguments: Any, **options: Any) -> Any: ...

    @classmethod
    def from_pretrained(cls, source: Any, dtype: str = "float32") -> Self:
        """A model of this task that begins with the weights of another: see
        `models.pretrained.from_pretrained`."""
        from tfx_transformer.models.pretrained import from_pretrained

        return from_pretrained(source, task=cls.task, dtype=dtype)[0]

    def _new_embedding(self) -> TokenEmbedding:
        config = self.config
        scale = config.hidden_dim**0.5 if config.scale_embedding else 1.0
        start = {}
        if config.initializer_range is not None:
            deviation = config.initializer_range / scale
            start["embeddings_initializer"] = keras.initializers.RandomNormal(stddev=deviation)
        return TokenEmbedding(
            config.vocabulary_size,
            config.embedding_dim,
            scale=scale,
            tie_weights=config.tie_embeddings,
            name="embedding",
            dtype=self.dtype_policy,
            **start,
        )

    def _build_parts(self, *parts):
        """The configuration tells every shape, so the weights exist from the beginning."""
        for part in (self.embedding, *parts):
            part.build((None, None, self.config.hidden_dim))
            part.built = True
        self.built = True

    def _check_padding(self):
        if self.config.padding_id == self.config.end_id:
            raise InputError(
                f"TransformerConfig: padding_id and end_id both are {self.config.end_id}.\n"
                f"  A model of task {self.task!r} would not see where its text ends."
            )

    def train_step(self, *arguments):
        """As Keras does it. What a batch measures whose gradient is not finite, and which
        `training.AdamW` leaves out, is left out of the metrics too."""
        bad_steps = getattr(self.optimizer, "bad_steps", None)
        if keras.backend.backend() != "tensorflow" or bad_steps is None:
            return super().train_step(*arguments)
        before = [(variable, ops.copy(variable.value)) for variable in self.metrics_variables]
        super().train_step(*arguments)
        for variable, old in before:
            variable.assign(ops.where(bad_steps > 0, old, variable.value))
        return self.get_metrics_result()

    def compile_from_config(self, config):
        # Keras does not call a `compile` that is overridden.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def get_config(self):
        config = {**super().get_config(), "config": self.config.to_dict()}
        adapters = lora.settings_of(self)
        return config | ({"adapters": adapters} if adapters else {})

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        adapters = config.pop("adapters", None)
        model = super().from_config(config, custom_objects)
        if adapters:
            lora.add_adapters(model, **adapters)
        return model
