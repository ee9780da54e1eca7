"""The base of all models: a configuration that gives every shape, and a way to be saved."""

from __future__ import annotations

from typing import Any, Self, cast

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data.batches import Batches
from tfx_transformer.errors import InputError
from tfx_transformer.layers import TokenEmbedding
from tfx_transformer.models import inputs, lora
from tfx_transformer.models.skipping import SkipsBadSteps
from tfx_transformer.models.summary import describing
from tfx_transformer.models.transformer import TransformerStack
from tfx_transformer.renamed import old_method
from tfx_transformer.text.conventions import Frame
from tfx_transformer.text.tokenizer import Tokenizer

# Place of `shuffle` among the arguments of `keras.Model.fit` after x and y.
_SHUFFLE = 6


class TransformerModel(keras.Model):
    """A Keras model made from a `TransformerConfig`, whose weights exist from the beginning.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Attributes:
        task: name of this kind of model in bundles.
        read_out: beginnings of the paths of the weights that are new for every task.
        writes: True if it writes text, token by token.
        has_classes: True if it scores classes that have names.
        pools: True if it reads out one vector of a text or an image, which may be pooled.
        makes_vectors: True if it gives a vector of each text.
        gives_number: True if it gives a single number, in the unit of the data.
        may_read_images: True if it may read images instead of texts.
        stacks: the fields of the configuration that count its blocks.
        scores_tokens: True if it gives logits over the vocabulary, so that the embedding table is
            also a factor, not only looked up.
        has_steady_loss: True if no single example has many times the usual loss, so that a jump of
            the loss is worth a warning.
        accumulate, step_in_parts: see `training.accumulate`, which sets them.
        trained_format: number format of the file whose rounded weights the last epochs of its
            training computed with; "": there were no such epochs.
        reads: names of its inputs. Wherever Keras takes inputs, they may be a dictionary, a single
            input also an array, and several inputs a tuple.
        may_read: names of optional inputs, in a dictionary only.

    Raises:
        InputError: `dtype` is not a dtype policy.
    """

    task = ""
    reads: tuple[str, ...] = ("token_ids",)
    may_read: tuple[str, ...] = ()
    read_out: tuple[str, ...] = ()
    writes = False
    has_classes = False
    pools = False
    makes_vectors = False
    gives_number = False
    may_read_images = False
    stacks: tuple[str, ...] = ("num_layers",)
    scores_tokens = True
    has_steady_loss = True
    accumulate = 1
    step_in_parts: Any = None
    trained_format = ""

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        try:
            super().__init__(**kwargs)
        except ValueError as error:  # a flag of the user: --precision
            raise InputError(
                f"the dtype policy is {kwargs.get('dtype')!r}: {error}\n"
                "  Expected one such as 'float32', 'bfloat16' or 'mixed_bfloat16'."
            ) from error
        self.config = TransformerConfig.from_dict(config) if isinstance(config, dict) else config

    @property
    def first_stack(self) -> TransformerStack:
        """The stack that reads the text or the image: the decoder where there is no encoder."""
        raise NotImplementedError

    @property
    def tables(self) -> list[TokenEmbedding]:
        """The layers that look up the vectors of ids in a table, by `TokenEmbedding.lookup`."""
        return [layer for layer in self._flatten_layers() if isinstance(layer, TokenEmbedding)]

    @classmethod
    def fewest_parameters(cls, config: TransformerConfig) -> int:
        """Return the least number of parameters of a model of this configuration.

        It counts learned positions, patches, and in each block queries, outputs and a feed-forward
        layer. No model has more than about twice as many, so the size of a file of weights bounds
        what a hostile configuration can allocate.
        """
        square = config.hidden_dim * config.num_heads * config.head_dim
        feed_forward = 2 * config.hidden_dim * config.intermediate_dim
        vectors = config.max_sequence_length if config.position == "learned" else 0
        if config.image_size and not config.conv_layers:
            vectors += 3 * config.patch_size**2
        return config.num_layers * (2 * square + feed_forward) + vectors * config.hidden_dim

    @property
    def remat(self) -> bool:
        """True if training keeps only the input of each block in memory, and computes what is
        within it again for the gradient: less memory, a third more computing, the same result."""
        return self.first_stack.remat

    @remat.setter
    def remat(self, value: bool) -> None:
        for layer in self._flatten_layers():
            if isinstance(layer, TransformerStack):
                layer.remat = value
        self.train_function = None  # Keras may have traced the other kind of step

    @staticmethod
    def text_frame(tokenizer: Tokenizer) -> Frame | None:
        """Return the ids around the texts that the model reads; None: it reads them bare."""
        return tokenizer.frame

    @property
    def readings(self) -> int:
        """The number of times that a training step reads its batch."""
        return 1

    def embed_content(self, content: Tensor) -> Tensor:
        """Return the vectors that the first stack reads.

        Args:
            content: int (batch, length), token ids; or float (batch, image_size, image_size, 3) of
                a model that reads images.

        Returns: float (batch, length, embedding_dim).
        """
        return self.embedding(content)

    embedded_content = old_method("TransformerModel.embedded_content", "embed_content")

    def by_name(self, given: Any) -> dict[str, Any]:
        """Return the inputs by name, from anything that Keras takes as inputs.

        Raises:
            InputError: they are not the inputs of the model.
        """
        return inputs.by_name(given, self.reads, self.may_read)

    # Before Keras begins, these check what is given and turn lists into arrays.

    def __call__(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        return super().__call__(self.by_name(inputs), *arguments, **options)

    def fit(
        self, x: Any = None, y: Any = None, *arguments: Any, **options: Any
    ) -> keras.callbacks.History:
        """`keras.Model.fit`; x as described at `reads`, in arrays, lists or a data set.

        Batches of `data`, and every other `tf.data.Dataset`, come in their own order, and Keras
        does not warn that it cannot shuffle them.
        """
        if hasattr(x, "element_spec") and len(arguments) <= _SHUFFLE:
            options.setdefault("shuffle", False)
        if isinstance(options.get("validation_data"), list | tuple):
            x_too, *labels = options["validation_data"]
            options["validation_data"] = (self._source(x_too), *map(inputs.rows, labels))
        self._learn_shapes(x)
        return super().fit(self._source(x), inputs.rows(y), *arguments, **options)

    def evaluate(self, x: Any = None, y: Any = None, *arguments: Any, **options: Any) -> Any:
        """`keras.Model.evaluate`; x and y as in `fit`."""
        self._learn_shapes(x)
        return super().evaluate(self._source(x), inputs.rows(y), *arguments, **options)

    def predict(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """`keras.Model.predict`; x as in `fit`."""
        return super().predict(self._source(x), *arguments, **options)

    def train_on_batch(self, x: Any, y: Any = None, *arguments: Any, **options: Any) -> Any:
        """`keras.Model.train_on_batch`; x and y as in `fit`, not a data set."""
        return super().train_on_batch(self._source(x), inputs.rows(y), *arguments, **options)

    def test_on_batch(self, x: Any, y: Any = None, *arguments: Any, **options: Any) -> Any:
        """`keras.Model.test_on_batch`; x and y as in `fit`, not a data set."""
        return super().test_on_batch(self._source(x), inputs.rows(y), *arguments, **options)

    def predict_on_batch(self, x: Any) -> Any:
        """`keras.Model.predict_on_batch`; x as in `fit`, not a data set."""
        return super().predict_on_batch(self._source(x))

    def _source(self, x):
        """Return the x of `fit`: inputs by name, or a source of batches, checked if it has an
        `element_spec`."""
        if isinstance(x, dict | list | tuple) or hasattr(x, "shape"):
            return self.by_name(x)
        batch = getattr(x, "element_spec", None)
        if batch is not None:
            self.by_name(batch[0] if isinstance(batch, tuple) else batch)
        return x

    def _learn_shapes(self, x):
        """Make the variables of metrics from the first batch of `Batches`. On JAX, Keras would
        iterate over them to see a batch, and each iteration is another epoch."""
        if keras.backend.backend() == "jax" and isinstance(x, Batches) and self.compiled:
            self._symbolic_build(data_batch=x.batch(x.examples(0)))

    def summary(self, *arguments: Any, **options: Any) -> None:
        """`keras.Model.summary`; with `expand_nested=True` it shows the parts of every layer."""
        with describing(self, self.input_signature()):
            super().summary(*arguments, **options)

    def export(
        self, filepath: Any, format: str = "tf_saved_model", *arguments: Any, **options: Any
    ) -> Any:
        """`keras.Model.export` of `call`; the model need not have been called before.

        See `tfx_transformer.export` for files that take texts, or generate.
        """
        if len(arguments) < 2:  # verbose, input_signature
            options.setdefault("input_signature", [self.input_signature()])
        return super().export(filepath, format, *arguments, **options)

    def input_signature(self) -> dict[str, keras.InputSpec]:
        """Shape and dtype of the inputs that the model must be given, by name."""
        return {
            name: keras.InputSpec(shape=(None, None), dtype="int32", name=name)
            for name in self.reads
        }

    @classmethod
    def from_pretrained(cls, source: Any, dtype: str = "float32") -> Self:
        """Return a model of this task with the weights of another: see
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
        """Create the weights: the configuration gives every shape, so no batch is needed."""
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

    def make_train_function(self, force: bool = False) -> Any:
        """Build the optimizer, then make Keras' function: TensorFlow traces a step twice if the
        step creates variables. Under a strategy Keras builds the optimizer, in its scope."""
        alone = getattr(self, "_distribute_strategy", None) is None
        if alone and self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def expand(self, batch: Any) -> Any:
        """Return (x, y, sample_weight) of a batch or a part of it, as a training step reads it."""
        return self.with_targets(batch)

    def with_targets(self, batch: Any) -> Any:
        """Return a batch as its loss and metrics need it: see `TokenModel`."""
        return batch

    def train_step(self, *arguments):
        """Train on one batch, as Keras does, or in `accumulate` parts. A batch that the optimizer
        skips, because its gradient is not finite, does not count in the metrics either."""
        optimizer = self.optimizer
        if keras.backend.backend() == "jax":
            return self._train_step_on_jax(*arguments)
        if not (isinstance(optimizer, SkipsBadSteps) and optimizer.built):
            return self._train_step(*arguments)
        before = [(variable, ops.copy(variable.value)) for variable in self.metrics_variables]
        self._train_step(*arguments)
        for variable, old in before:
            variable.assign(ops.where(optimizer.bad_steps > 0, old, variable.value))
        return self.get_metrics_result()

    def _train_step(self, batch):
        if self.step_in_parts is None:
            return super().train_step(self.expand(batch))
        self.step_in_parts(self, batch)
        return self.get_metrics_result()

    def _train_step_on_jax(self, state, batch):
        """Train on one batch in JAX, where a step is a function of the state of training: the
        values of weights, other variables, optimizer and metrics."""
        before, own = state[3], cast(Any, self.optimizer)
        if self.step_in_parts is None:
            logs, state = super().train_step(state, self.expand(batch))
        else:
            logs, state = None, self.step_in_parts(self, state, batch)
        weights, others, optimizer, metrics = state
        if isinstance(self.optimizer, SkipsBadSteps) and own.built:
            values = zip(own.variables, optimizer, strict=True)
            bad = next(value for variable, value in values if variable is own.bad_steps)
            metrics = [
                ops.where(bad > 0, old, new) for old, new in zip(before, metrics, strict=True)
            ]
        elif logs is not None:
            return logs, state
        mapping = list(zip(self.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            logs = self.get_metrics_result()
        return logs, (weights, others, optimizer, metrics)

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
