"""Encoder-only models: one stack that sees a whole text or image at once, and a read-out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.layers import (
    ConvolutionalTokenizer,
    EdgeColorLogits,
    Linear,
    NGramEmbedding,
    NGramLogits,
    PatchEmbedding,
    Pooling,
    TokenBag,
)
from tfx_transformer.layers.edges import count_weights
from tfx_transformer.layers.feed_forward import ACTIVATIONS
from tfx_transformer.layers.norm import new_norm
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.models import losses
from tfx_transformer.models.base import TransformerModel
from tfx_transformer.models.token_models import TokenModel
from tfx_transformer.models.transformer import TransformerStack
from tfx_transformer.renamed import old_method


class EncoderModel(TransformerModel):
    """The base of encoder-only models: the embedding of a text or an image, and the stack.

    A subclass makes its read-out, calls `_build_parts`, and reads out what `encode` returns.

    Args:
        config: `TransformerConfig`, or its dictionary.
    """

    may_read = ("segment_ids",)

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        config = self.config
        part = {"name": "embedding", "dtype": self.dtype_policy}
        if not config.image_size:
            self.embedding = self._new_embedding()
        elif config.conv_layers:
            self.embedding = ConvolutionalTokenizer(config.hidden_dim, config.conv_layers, **part)
        else:
            self.embedding = PatchEmbedding(config.hidden_dim, config.patch_size, **part)
        self.ngrams = None
        if config.ngram_buckets and not config.image_size:
            self.ngrams = NGramEmbedding(
                config.ngram_buckets,
                config.embedding_dim,
                scale=self.embedding.scale,
                name="ngrams",
                dtype=self.dtype_policy,
            )
        self.segments = self.class_tokens = None
        if not config.image_size:
            self._check_padding()
            if config.num_segments:
                self.segments = keras.layers.Embedding(
                    config.num_segments,
                    config.embedding_dim,
                    embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02),
                    name="segments",
                    dtype=self.dtype_policy,
                )
        elif config.class_tokens:
            # By `add_weight` its path would begin with the model's name, which Keras numbers.
            self.class_tokens = keras.Variable(
                keras.initializers.TruncatedNormal(stddev=0.02),
                (1, config.class_tokens, config.hidden_dim),
                self.variable_dtype,
                name="class_tokens",
            )
        self.encoder = TransformerStack(
            config,
            config.num_layers,
            causal=config.causal_encoder,
            name="encoder",
            dtype=self.dtype_policy,
        )

    @classmethod
    def fewest_parameters(cls, config: TransformerConfig) -> int:
        """See `TransformerModel`; an encoder of texts may have a table of pairs of tokens."""
        pairs = 0 if config.image_size else config.ngram_buckets
        return super().fewest_parameters(config) + pairs * config.hidden_dim

    @property
    def first_stack(self) -> TransformerStack:
        """The encoder."""
        return self.encoder

    def embed_content(self, content: Tensor) -> Tensor:
        """Return the vectors that the encoder reads: see `TransformerModel`."""
        return self.embed_inputs({"images" if self.config.image_size else "token_ids": content})[0]

    @property
    def reads(self) -> tuple[str, ...]:
        return ("images",) if self.config.image_size else ("token_ids",)

    def input_signature(self) -> dict[str, keras.InputSpec]:
        size = self.config.image_size
        if not size:
            return super().input_signature()
        shape = (None, size, size, 3)
        return {"images": keras.InputSpec(shape=shape, dtype="float32", name="images")}

    def _build_parts(self, *parts):
        parts = (self.ngrams, self.segments, *parts)
        super()._build_parts(*(part for part in parts if part is not None))

    def _new_pooled_norm(self):
        config = self.config
        if not config.norm_pooled:
            return None
        norm = {"epsilon": config.norm_epsilon, "name": "pooled_norm", "dtype": self.dtype_policy}
        return new_norm(config.norm, config.norm_bias, **norm)

    def pool(self, x: Tensor, mask: Tensor) -> Tensor:
        """The one vector of a text or an image, float (batch, hidden_dim)."""
        x = self.pooling(x, mask)
        return x if self.pooled_norm is None else self.pooled_norm(x)

    def _add_bag(self):
        """Set the bag of tokens and the share of the encoder beside it, or None without a bag."""
        config = self.config
        self.bag = self.share = None
        if config.bag_dim and not config.image_size:
            size = (config.vocabulary_size, config.bag_dim)
            self.bag = TokenBag(*size, dropout=config.dropout, name="bag", dtype=self.dtype_policy)
            self.bag.build((None, None))
            self.bag.built = True
            # By `add_weight` its path would begin with the model's name, which Keras numbers.
            self.share = keras.Variable([[0.5]], dtype="float32", trainable=False, name="share")

    def join(self, vectors: Tensor, sums: Tensor) -> Tensor:
        """Return vectors of texts, joined with the sums of the bag of tokens: see `Embedder`.

        Args:
            vectors: float (batch, width - bag_dim), of length 1: see `pool_and_project`.
            sums: float (batch, bag_dim): see `TokenBag`.
        """
        share = ops.cast(self.share, vectors.dtype)
        parts = [ops.sqrt(share) * vectors, ops.sqrt(1 - share) * _normalize(sums)]
        if not self.config.widths:
            return _normalize(ops.concatenate(parts, axis=-1))
        # As many groups as both parts can have: a of one, b of the other, a of one, …
        groups = math.gcd(*(part.shape[-1] for part in parts))
        split = [ops.reshape(part, (-1, groups, part.shape[-1] // groups)) for part in parts]
        width = sum(part.shape[-1] for part in parts)
        return _normalize(ops.reshape(ops.concatenate(split, axis=-1), (-1, width)))

    pooled = old_method("EncoderModel.pooled", "pool")
    embedded = old_method("EncoderModel.embedded", "embed_inputs")

    def embed_inputs(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return the vectors that the encoder reads: the embedding, with n-grams, segments and
        class tokens where the model has them.

        Args:
            inputs: see `encode`.

        Returns: float (batch, length, embedding_dim), and the mask of padding, bool (batch,
            length), False for padding, None for images.
        """
        if self.config.image_size:
            x = self.embedding(inputs["images"])
            if self.class_tokens is not None:
                tokens = ops.cast(self.class_tokens, x.dtype)
                tokens = ops.broadcast_to(tokens, (ops.shape(x)[0], *tokens.shape[1:]))
                x = ops.concatenate([tokens, x], axis=1)
            return x, None
        x = self.embedding(inputs["token_ids"])
        if self.ngrams is not None:
            x = x + self.ngrams(inputs["token_ids"])
        if self.segments is not None:
            x = x + self.segments(self._segment_ids(inputs))
        return x, ops.not_equal(inputs["token_ids"], self.config.padding_id)

    def encode(
        self,
        inputs: Mapping[str, Tensor],
        return_hidden_states: bool = False,
        training: bool | None = None,
    ) -> Any:
        """A contextual vector for every token, or every region of an image.

        Args:
            inputs: {"token_ids": int (batch, length)}, filled up with `padding_id`; a model with
                segments begins a new one after each `end_id`, unless "segment_ids": int (batch,
                length) are given too. Or {"images": float (batch, image_size, image_size, 3)},
                colours from 0 to 255.
            return_hidden_states: see `TransformerStack`.

        Returns: float (batch, length, hidden_dim), and the mask of padding, bool (batch, length),
            False for padding, None for images; then the hidden states if requested.
        """
        x, mask = self.embed_inputs(inputs)
        result = self.encoder(
            x,
            attention_mask=None if mask is None else ops.expand_dims(mask, 1),
            return_hidden_states=return_hidden_states,
            training=training,
        )
        return (result[0], mask, result[1]) if return_hidden_states else (result, mask)

    def _segment_ids(self, inputs):
        """int (batch, length): 0 up to the first `end_id`, 1 up to the second, and so on."""
        if "segment_ids" in inputs:
            return inputs["segment_ids"]
        # In float32, exact up to 2^24: LiteRT's GPU delegates add up floats only.
        ends = ops.cast(ops.equal(inputs["token_ids"], self.config.end_id), "float32")
        segments = ops.minimum(ops.cumsum(ends, axis=1) - ends, self.config.num_segments - 1)
        return ops.cast(segments, "int32")


@serializable
class MaskedLM(TokenModel, EncoderModel):
    """Pre-training of an encoder: predicts the tokens that are masked in a text.

    logits = norm(f(x_i W + b)) E^T + c, for every masked position i

    Devlin et al. (2019), section 3.1, task 1. Only the masked positions are read out.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Call arguments:
        inputs: {"token_ids": int (batch, length), "masked_positions": int (batch, masked)}; unused
            positions are 0 and weigh 0 in the loss. Without positions, or with token ids alone,
            every position is read out. To score the masked ids also "targets": int (batch, masked).

    Returns: float (batch, masked, vocabulary_size). With targets their `TokenScores`.
    """

    task = "masked"
    may_read = ("masked_positions", "segment_ids", "targets")

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        config, part = self.config, {"dtype": self.dtype_policy}
        self.transform = Linear(
            config.embedding_dim, use_bias=config.head_bias, name="transform", **part
        )
        self.transform_norm = keras.layers.LayerNormalization(
            epsilon=config.norm_epsilon, center=config.norm_bias, name="transform_norm", **part
        )
        self.activation = ACTIVATIONS[config.activation]
        self.transform_norm.build((None, None, config.embedding_dim))
        self._build_parts(self.encoder, self.transform)
        # By `add_weight` its path would begin with the model's name, which Keras numbers.
        self.bias = keras.Variable(
            "zeros", (self.config.vocabulary_size,), self.variable_dtype, name="bias"
        )

    def call(self, inputs, training=None):
        inputs = self.by_name(inputs)
        x, _ = self.encode(inputs, training=training)
        if "masked_positions" in inputs:
            positions = ops.cast(inputs["masked_positions"], "int32")
            x = ops.take_along_axis(x, ops.expand_dims(positions, -1), 1)
        x = self.transform_norm(self.activation(self.transform(x)))
        if "targets" in inputs:
            return self.scores_of(x, inputs["targets"])
        return self.logits_of(x)

    def logits_of(self, x: Tensor) -> Tensor:
        """float (batch, masked, embedding_dim), after the transform -> logits over the vocabulary,
        float (batch, masked, vocabulary_size)."""
        logits = self.embedding(x, reverse=True)
        return logits + ops.cast(self.bias, logits.dtype)

    @property
    def read_out_variables(self) -> list[keras.Variable]:
        """The variables that `logits_of` reads."""
        return [*self.embedding.reverse_variables, self.bias]

    def compile(
        self,
        optimizer: Any = "adamw",
        loss: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """`keras.Model.compile`; by default with `TokenCrossentropy`, accuracy and perplexity of
        the masked tokens."""
        if weighted_metrics is None:
            weighted_metrics = [losses.TokenAccuracy(), losses.Perplexity()]
        loss = losses.TokenCrossentropy() if loss is None else loss
        super().compile(optimizer, loss=loss, weighted_metrics=weighted_metrics, **kwargs)


class PooledModel(EncoderModel):
    """The base of models that compute numbers from one vector of each input.

    outputs = W dropout(p) + b,  p = pool(encoder(x)); with `pooler`
    p = [norm](f(W' pool(encoder(x)) + b')); with `bag_dim` p is joined as in `Embedder`

    Devlin et al. (2019), section 4.1. `count_outputs` of a subclass gives how many numbers.

    Args:
        config: `TransformerConfig`, or its dictionary.
    """

    pools = True
    scores_tokens = False
    read_out = ("pooling/", "pooled_norm/", "pooler/", "pooler_norm/", "logits/")

    @classmethod
    def count_outputs(cls, config: TransformerConfig) -> int:
        """Return how many numbers a model of this configuration gives for each input."""
        raise NotImplementedError

    @classmethod
    def fewest_parameters(cls, config: TransformerConfig) -> int:
        """See `TransformerModel`; outputs have a vector each, and the bag has one a token."""
        bag = 0 if config.image_size else config.bag_dim * config.vocabulary_size
        outputs = cls.count_outputs(config) * config.hidden_dim
        return super().fewest_parameters(config) + outputs + bag

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        config, part = self.config, {"dtype": self.dtype_policy}
        self.pooling = Pooling(config.pooling, config.class_tokens or 1, name="pooling", **part)
        self.pooled_norm = self._new_pooled_norm()
        self._add_pooler()
        self.pooled_dropout = keras.layers.Dropout(config.dropout, dtype=self.dtype_policy)
        self.logits = Linear(self.count_outputs(config), name="logits", **part)
        self._build_parts(
            self.encoder, self.pooling, self.pooled_norm, self.pooler, self.pooler_norm
        )
        self._add_bag()
        width = config.hidden_dim
        if config.pooling == "class_tokens":
            width *= config.class_tokens
        if self.bag is not None:
            width += config.bag_dim
        self.logits.build((None, width))

    def _add_pooler(self):
        """The projection before the outputs, and its norm, where the configuration has them."""
        config, part = self.config, {"dtype": self.dtype_policy}
        self.pooler = self.pooler_norm = None
        if config.pooler:
            activation = ACTIVATIONS.get(config.pooler_activation, config.pooler_activation)
            bias = config.head_bias
            width = config.hidden_dim
            self.pooler = Linear(width, activation=activation, use_bias=bias, name="pooler", **part)
        if config.pooler and config.pooler_norm:
            part |= {"epsilon": config.norm_epsilon, "name": "pooler_norm"}
            self.pooler_norm = new_norm(config.norm, config.norm_bias, **part)

    def features(self, inputs: Any, training: bool | None = None) -> Tensor:
        """Return the vector that the Transformer's logits are computed from, float (batch, width).
        A linear part has features of its own."""
        inputs = self.by_name(inputs)
        x, mask = self.encode(inputs, training=training)
        x = self.pool(x, mask)
        if self.pooler is not None:
            x = self.pooler(x)
        if self.pooler_norm is not None:
            x = self.pooler_norm(x)
        if self.config.unit_features or self.bag is not None:
            x = _normalize(x)
        if self.bag is None:
            return x
        return self.join(x, self.bag(inputs["token_ids"], mask, training=training))

    def call(self, inputs, training=None):
        x = self.features(inputs, training=training)
        return self.logits(self.pooled_dropout(x, training=training))


@serializable
class Classifier(PooledModel):
    """Gives a text or an image the logit of each class; with `linear_buckets` those of
    `NGramLogits` are added, for images with `linear_cells` those of `EdgeColorLogits`.

    See `PooledModel`; for images Dosovitskiy et al. (2021), section 3.1, with `conv_layers` and
    pooling "attention" the Compact Convolutional Transformer of Hassani et al. (2021), section 3.

    Args:
        config: `TransformerConfig`, or its dictionary, with `num_classes`.

    Call arguments:
        inputs: see `encode`; or the token ids, or the images, alone.

    Returns: float (batch, num_classes): logits of a softmax; if `multi_label`, of a sigmoid each.

    Raises:
        InputError: `num_classes` is below 2, or below 1 if `multi_label`.
    """

    task = "classification"
    has_classes = True
    may_read_images = True
    consistency = 0.0

    @classmethod
    def count_outputs(cls, config: TransformerConfig) -> int:
        """See `PooledModel`: the classes."""
        least = 1 if config.multi_label else 2
        if config.num_classes < least:
            raise InputError(
                f"TransformerConfig: num_classes is {config.num_classes}.\n"
                f"  Expected {least} or more for a classifier."
            )
        return config.num_classes

    @classmethod
    def fewest_parameters(cls, config: TransformerConfig) -> int:
        """See `TransformerModel`; each n-gram, or each feature of an image, has a weight for each
        class, and filters of patches have weights too."""
        more = config.linear_buckets * config.num_classes
        if config.image_size:
            more = count_weights(*_sizes(config)) if config.linear_cells else 0
        return super().fewest_parameters(config) + more

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        config = self.config
        self.linear = self._new_linear()

    def _new_linear(self) -> NGramLogits | EdgeColorLogits | None:
        """Return the linear part, built, or None without one."""
        config, part = self.config, {"name": "linear", "dtype": "float32"}
        if config.image_size and config.linear_cells:
            linear = EdgeColorLogits(*_sizes(config), **part)
        elif config.linear_buckets and not config.image_size:
            table = (config.linear_buckets, config.num_classes, config.linear_longest)
            linear = NGramLogits(*table, **part)
        else:
            return None
        linear.build((None, None))
        linear.built = True
        return linear

    def call(self, inputs, training=None):
        inputs = self.by_name(inputs)
        logits = super().call(inputs, training=training)
        if self.linear is None:
            return logits
        if self.config.image_size:
            return logits + ops.cast(self.linear(inputs["images"]), logits.dtype)
        mask = ops.not_equal(inputs["token_ids"], self.config.padding_id)
        return logits + ops.cast(self.linear(inputs["token_ids"], mask), logits.dtype)

    @property
    def readings(self) -> int:
        """2 if compiled with `consistency`, which compares two readings of a batch; else 1."""
        return 2 if self.consistency else 1

    def divide_logits(self, temperature: float) -> None:
        """Divide all logits by a number, in the weights that compute them: every export of the
        model then gives the same probabilities.

        Args:
            temperature: above 0; above 1 probabilities become less extreme.
        """
        weights = [*self.logits.trainable_weights]
        if self.linear is not None:
            weights.append(self.linear.output_weight)
        for weight in weights:
            weight.assign(keras.ops.divide(weight, temperature))

    def compile(
        self,
        optimizer: Any = "adamw",
        loss: Any = None,
        weighted_metrics: Any = None,
        label_smoothing: float = 0.0,
        consistency: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """`keras.Model.compile`; by default with accuracy and the cross-entropy that fits the
        labels: int (batch,) for texts, a probability for each class for images, 0 or 1 for each
        class if `multi_label`.

        Args:
            consistency: weight of `losses.disagreement`; 0: off. Above 0 each training step reads
                its batch twice, under different dropout, and the loss grows where the answers
                differ (R-Drop, Liang et al. 2021): better with little data, at twice the cost.

        Raises:
            InputError: `consistency` is below 0.
        """
        if not 0 <= consistency < math.inf:
            raise InputError(f"consistency is {consistency}.\n  Expected 0 or more.")
        self.consistency = consistency
        if self.config.multi_label:
            default = keras.losses.BinaryCrossentropy(True, label_smoothing)
            accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
        elif self.config.image_size:
            default = keras.losses.CategoricalCrossentropy(True, label_smoothing)
            accuracy = keras.metrics.CategoricalAccuracy("accuracy")
        else:
            default = losses.TokenCrossentropy(label_smoothing)
            accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
        super().compile(
            optimizer,
            loss=default if loss is None else loss,
            weighted_metrics=[accuracy] if weighted_metrics is None else weighted_metrics,
            **kwargs,
        )

    def get_compile_config(self):
        config = super().get_compile_config()
        return config and {**config, "consistency": self.consistency}

    def expand(self, batch: Any) -> Any:
        """Return a batch with each row twice if two readings of it are to agree (`consistency`)."""
        if not self.consistency:
            return batch
        return keras.tree.map_structure(lambda part: ops.concatenate([part, part]), batch)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not (training and self.consistency):
            return loss
        half = ops.shape(y_pred)[0] // 2
        apart = losses.disagreement(y_pred[:half], y_pred[half:], self.config.multi_label)
        weights = None if sample_weight is None else sample_weight[:half]
        apart = losses.reduced(apart, weights, losses.reduction_of(self.loss))
        return loss + self.consistency * apart


def _sizes(config: TransformerConfig) -> tuple[int, int, int, int]:
    """The arguments of `EdgeColorLogits`."""
    return config.image_size, config.linear_cells, config.num_classes, config.linear_patches


# The cosine with an excluded negative. float16 can hold it.
_EXCLUDED = -1e4


@serializable
class Embedder(EncoderModel):
    """One vector for each text: vectors of texts of similar meaning have similar directions.

    e = v / ||v||,  v = f_n(… f_1(pool(encoder(x))));  for pairs: cos(e_i, e'_j) for every i and j

    The f are the `projections` of the configuration, none by default; without `normalize`, e = v.
    With `bag_dim`, e = [sqrt(s) v / ||v||, sqrt(1 - s) u / ||u||]: u is the sum of the tokens'
    vectors (`TokenBag`), and s the encoder's share of the cosine, 1/2 unless `set_share` changes
    it.

    Reimers & Gurevych (2019), section 3; trained on pairs by `InBatchContrast`.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Call arguments:
        inputs: int (batch, length), token ids, or {"token_ids": int (batch, length)}; in training
            also {"pair_token_ids": int (batch, pair_length)}, the text that belongs to each, and
            perhaps {"negative_token_ids": int (batch, length)}, a text that does not, and
            {"excluded_negatives": bool (batch, batch)}, True at (i, j) if the negative of text j
            belongs to text i.

    Returns: float (batch, width), where width is that of the last projection or hidden_dim, plus
        bag_dim; for pairs float (batch, batch), the cosine of every text (row) with every pair
        (column), or with `widths` (batch, batch, widths + 1), also those of the vectors cut to each
        width, the whole ones last. Negatives are further columns, behind the pairs; an excluded one
        has a cosine of -10,000, so that it does not count in a contrastive loss.

    Raises:
        InputError: the model would read images.
    """

    task = "embedding"
    pools = True
    makes_vectors = True
    scores_tokens = False
    may_read = ("pair_token_ids", "negative_token_ids", "excluded_negatives")

    @classmethod
    def fewest_parameters(cls, config: TransformerConfig) -> int:
        """See `TransformerModel`; the projections are counted whole."""
        count, width = super().fewest_parameters(config), config.hidden_dim
        for projection in config.projections:
            count += width * projection["width"]
            width = projection["width"]
        return count + config.bag_dim * config.vocabulary_size

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        if self.config.image_size:
            raise InputError("an embedder reads texts, not images.\n  Choose a base that does.")
        self.pooling = Pooling(self.config.pooling, name="pooling", dtype=self.dtype_policy)
        self.pooled_norm = self._new_pooled_norm()
        self.projections = [
            Linear(
                projection["width"],
                activation=ACTIVATIONS.get(projection["activation"], projection["activation"]),
                use_bias=projection["use_bias"],
                name=f"projection_{index}",
                dtype=self.dtype_policy,
            )
            for index, projection in enumerate(self.config.projections)
        ]
        self._build_parts(self.encoder, self.pooling, self.pooled_norm)
        self._add_bag()
        width = self.config.hidden_dim
        for projection in self.projections:
            projection.build((None, width))
            width = projection.units

    def call(self, inputs, training=None):
        inputs = self.by_name(inputs)
        vectors = self.embed(inputs["token_ids"], training=training)
        if "pair_token_ids" not in inputs:
            return vectors
        pairs = self.embed(inputs["pair_token_ids"], training=training)
        if "negative_token_ids" in inputs:
            negatives = self.embed(inputs["negative_token_ids"], training=training)
            pairs = ops.concatenate([pairs, negatives], axis=0)
        if not self.config.normalize:
            vectors, pairs = _normalize(vectors), _normalize(pairs)
        cosines = ops.matmul(vectors, ops.transpose(pairs))
        if self.config.widths:
            cut = [self._cosines(vectors[:, :n], pairs[:, :n]) for n in self.config.widths]
            cosines = ops.stack([*cut, cosines], axis=-1)
        if "excluded_negatives" not in inputs:
            return cosines
        # A batch may be the first rows of a larger one, with as many negatives.
        left_out = ops.cast(inputs["excluded_negatives"], "bool")[:, : ops.shape(vectors)[0]]
        left_out = ops.concatenate([ops.zeros_like(left_out), left_out], axis=1)
        left_out = ops.expand_dims(left_out, -1) if self.config.widths else left_out
        return ops.where(left_out, ops.cast(_EXCLUDED, cosines.dtype), cosines)

    def _cosines(self, vectors: Tensor, pairs: Tensor) -> Tensor:
        return ops.matmul(_normalize(vectors), ops.transpose(_normalize(pairs)))

    def embed(self, token_ids: Tensor, training: bool | None = None) -> Tensor:
        """int (batch, length) -> float (batch, width), of length 1 each if the model normalizes."""
        x, mask = self.encode({"token_ids": token_ids}, training=training)
        vectors = self.pool_and_project(x, mask)
        if self.bag is None:
            return vectors
        return self.join(vectors, self.bag(token_ids, mask, training=training))

    def pool_and_project(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors of texts from what `encode` returns, without the sums of tokens."""
        x = self.pool(x, mask)
        for projection in self.projections:
            x = projection(x)
        return _normalize(x) if self.config.normalize else x

    def set_share(self, share: float) -> None:
        """Set the share of the encoder in the cosine of two texts, from 0 to 1; the bag of tokens
        has the rest."""
        if self.share is None or not 0 <= share <= 1:
            raise ValueError(f"set_share: the share is {share}, bag_dim {self.config.bag_dim}.")
        self.share.assign([[share]])

    def compile(self, optimizer: Any = "adamw", loss: Any = None, **kwargs: Any) -> None:
        """`keras.Model.compile`; by default with `InBatchContrast`. With `widths` in the
        configuration the loss is averaged over them."""
        loss = losses.InBatchContrast() if loss is None else loss
        if self.config.widths and not isinstance(loss, losses.Matryoshka):
            loss = losses.Matryoshka(loss)
        super().compile(optimizer, loss=loss, **kwargs)


def _normalize(x):
    return ops.normalize(x, axis=-1, epsilon=1e-12)


# Weights after the pooling; they stay new if the base has none.
_BEHIND = ("pooler/", "pooler_norm/", "projection_")
_ENCODER = ("embedding/", "ngrams/", "segments/", "class_tokens", "encoder/", *_BEHIND)
# Weights that an embedder also copies from an embedder with the same pooling.
_POOLING = ("pooling/", "pooled_norm/", "bag/", "share")


def copy_weights(
    model: EncoderModel,
    base: keras.Model | None,
    labels: Sequence[str] = (),
    base_labels: Sequence[str] = (),
) -> None:
    """Copy embedding and encoder of a trained model to a new one. The read-out stays new, except
    the pooling of an embedder whose base is an embedder, and `base_labels` of a classifier.

    Args:
        model: the model to fine-tune, made from `config_for_fine_tuning(base.config, …)`.
        base: a model with an encoder: `MaskedLM`, `Embedder`, `Classifier` or `Seq2SeqLM`; None:
            the new model begins from scratch.
        labels: names of the new model's classes.
        base_labels: names of all classes of the base, a part of `labels`, to copy them too; empty:
            all classes are new.

    Raises:
        InputError: `base` has no encoder of this shape.
    """
    if base is None:
        return
    own, theirs = ({w.path: w for w in m.weights} for m in (model, base))
    both_embed = isinstance(model, Embedder) and isinstance(base, Embedder)
    is_same_head = both_embed or bool(base_labels)
    optional = (*_BEHIND, *_POOLING) if is_same_head else _BEHIND
    for path, weight in own.items():
        if not path.startswith((*_ENCODER, *optional)) or "seed_generator" in path:
            continue
        if path.startswith(optional) and path not in theirs:
            continue  # new where the base did not classify, or embed
        if path not in theirs or theirs[path].shape != weight.shape:
            raise InputError(
                f"the base, a {base.task} model, has no weight {path} of shape {weight.shape}.\n"
                "  Expected a model that reads with the same encoder."
            )
        weight.assign(theirs[path].value)
    if base_labels:
        _copy_classes(model, base, labels, base_labels)


def _copy_classes(
    model: EncoderModel, base: keras.Model, labels: Sequence[str], base_labels: Sequence[str]
) -> None:
    """Copy the weights of the logits of each base label to the label of the same name."""
    places = [labels.index(name) for name in base_labels]
    for weight, other in zip(model.logits.weights, base.logits.weights, strict=True):
        values = np.array(keras.ops.convert_to_numpy(weight.value))
        values[..., places] = keras.ops.convert_to_numpy(other.value)
        weight.assign(values)


def config_for_fine_tuning(
    config: TransformerConfig | dict[str, Any], **overrides: Any
) -> TransformerConfig:
    """Return the configuration of a model that copies the encoder of another; `overrides` that are
    not None replace its values. The read-out is new, so `linear_buckets`, `linear_cells`,
    `linear_patches` and `bag_dim` are 0 and there are no `widths`, unless given."""
    given = {"linear_buckets": 0, "linear_cells": 0, "linear_patches": 0, "bag_dim": 0}
    given |= {"widths": ()}
    given |= {name: value for name, value in overrides.items() if value is not None}
    return dataclasses.replace(config, **given)
