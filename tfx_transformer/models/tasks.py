"""Models for tasks: a token embedding, one or two stacks, and a read-out."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.layers.serializable import serializable
from tfx_transformer.models.losses import (
    Perplexity,
    TokenAccuracy,
    TokenCrossentropy,
)
from tfx_transformer.models.token_models import TokenModel
from tfx_transformer.models.transformer import TransformerStack
from tfx_transformer.text.conventions import Frame
from tfx_transformer.text.tokenizer import Tokenizer


class LanguageModel(TokenModel):
    """The base of models that write tokens: the embedding table, loss and metrics.

    A subclass makes its stacks and calls `_build_parts`; for decoding it has `begin` and `step`,
    so that one loop (`models.decoding`) decodes every task.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Raises:
        InputError: it has `ngram_buckets`, or an embedding table of another width than
            `hidden_dim`, which only encoder-only models have.
    """

    writes = True
    prompt_in_cache = False  # True if prompt and answer share one cache
    label_smoothing = 0.0  # of the default loss

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        if self.config.ngram_buckets:
            raise InputError(
                f"ngram_buckets is {self.config.ngram_buckets} for a model that writes text.\n"
                "  Expected 0: only models that read have a table of token pairs (masked, "
                "classification, embedding)."
            )
        if self.config.embedding_dim != self.config.hidden_dim:
            raise InputError(
                f"embedding_dim is {self.config.embedding_dim} for a model that writes text.\n"
                f"  Expected hidden_dim, {self.config.hidden_dim}: only models that read have a "
                "table of another width."
            )
        self.embedding = self._new_embedding()
        self.logits_bias = None
        if self.config.logits_bias:
            # By `add_weight` its path would begin with the model's name, which Keras numbers.
            self.logits_bias = keras.Variable(
                "zeros", (self.config.vocabulary_size,), self.variable_dtype, name="logits_bias"
            )

    def logits_of(self, x: Tensor) -> Tensor:
        """float (batch, length, hidden_dim) -> logits over the vocabulary, float (batch, length,
        vocabulary_size)."""
        if self.config.logit_scale != 1:
            x = x * ops.cast(self.config.logit_scale, x.dtype)
        logits = self.embedding(x, reverse=True)
        if self.logits_bias is not None:
            logits = logits + ops.cast(self.logits_bias, logits.dtype)
        if self.config.logit_softcap is not None:
            cap = ops.cast(self.config.logit_softcap, logits.dtype)
            logits = ops.tanh(logits / cap) * cap
        return logits

    @property
    def read_out_variables(self) -> list[keras.Variable]:
        """The variables that `logits_of` reads."""
        bias = [] if self.logits_bias is None else [self.logits_bias]
        return [*self.embedding.reverse_variables, *bias]

    def _read_out(self, x, targets):
        """Return the scores of the targets, or the logits if there are none."""
        return self.logits_of(x) if targets is None else self.scores_of(x, targets)

    def compile(
        self,
        optimizer: Any = "adamw",
        loss: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """`keras.Model.compile`; by default with `TokenCrossentropy` (label smoothing 0.1 in a
        `Seq2SeqLM`, none in the others), token accuracy and perplexity, all without padding."""
        super().compile(
            optimizer,
            loss=TokenCrossentropy(self.label_smoothing) if loss is None else loss,
            weighted_metrics=(
                [TokenAccuracy(), Perplexity()] if weighted_metrics is None else weighted_metrics
            ),
            **kwargs,
        )


@serializable
class CausalLM(LanguageModel):
    """A decoder: continues a text, one token after the other.

    logits = decoder(embed(tokens)) E^T

    Radford et al. (2018), section 3.1. Training, decoding and the exported files all run `decode`.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Call arguments:
        inputs: int (batch, length), token ids, or {"token_ids": int (batch, length)}; `padding_id`
            may fill up the end of a row. For rows of several packed examples also "positions": int
            (batch, length), which begin at 0 in each example, and "segment_ids": int (batch,
            length), equal within an example; a token sees its own segment only. To compare answers
            also "labels": int (batch, length), the ids one step ahead, -1 where they do not count;
            or "targets", such ids of which all count.

    Returns: float (batch, length, vocabulary_size), logits of the next token. With labels: float32
        (batch,), the sum of log p over the labels that count. With targets their `TokenScores`.
    """

    task = "causal"
    prompt_in_cache = True
    may_read = ("positions", "segment_ids", "labels", "targets")

    @staticmethod
    def text_frame(tokenizer: Tokenizer) -> None:
        """Return None: the model continues texts, so nothing is put around them."""
        return None

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.decoder = TransformerStack(
            self.config,
            self.config.num_layers,
            causal=True,
            name="decoder",
            dtype=self.dtype_policy,
        )
        self._build_parts(self.decoder)

    @property
    def first_stack(self) -> TransformerStack:
        """The decoder."""
        return self.decoder

    def call(self, inputs, training=None):
        inputs = self.by_name(inputs)
        mask, segments = None, inputs.get("segment_ids")
        if segments is not None:
            mask = ops.equal(ops.expand_dims(segments, 2), ops.expand_dims(segments, 1))
        labels = inputs.get("labels")
        read = self.decode(
            inputs["token_ids"],
            position=inputs.get("positions", 0),
            attention_mask=mask,
            targets=inputs.get("targets") if labels is None else ops.maximum(labels, 0),
            training=training,
        )
        if labels is None:
            return read
        return -ops.sum(ops.where(labels >= 0, read.losses, 0.0), axis=-1)

    def decode(
        self,
        token_ids: Tensor,
        cache: Any = None,
        position: Tensor = 0,
        attention_mask: Tensor | None = None,
        training: bool | None = None,
        targets: Tensor | None = None,
    ) -> Any:
        """Logits of the token after each given one: the one step of training and generation.

        Padding needs no mask: it is at the end, where earlier tokens cannot see it, and in a cache
        it is overwritten before any token may see its slot.

        Args:
            token_ids: int (batch, length).
            cache: the cache from `new_cache` or from the step before.
            position: see `TransformerStack`; with a cache the number of tokens already in it.
            attention_mask: bool, broadcastable to (batch, length, keys), where keys are the tokens,
                or the slots of the cache; False hides one.
            targets: int (batch, length); without a cache, return their `TokenScores` instead.

        Returns: float (batch, length, vocabulary_size); then the new cache if one was given.
        """
        result = self.decoder(
            self.embedding(token_ids),
            cache=cache,
            position=position,
            attention_mask=attention_mask,
            training=training,
        )
        if cache is None:
            return self._read_out(result, targets)
        x, cache = result
        return self.logits_of(x), cache

    def prefill(self, token_ids: Tensor, cache: Any, position: Tensor = 0) -> Any:
        """Return the cache with the keys and values of many tokens; arguments as in `decode`."""
        x = self.embedding(token_ids)
        return self.decoder(x, cache=cache, position=position, training=False)[1]

    def new_cache(self, batch_size: int, max_length: int) -> Any:
        """An empty key/value cache for `decode`: see `TransformerStack.new_cache`."""
        return self.decoder.new_cache(batch_size, max_length)

    def begin(self, token_ids: Tensor, lengths: Tensor, limit: Tensor, rows: int = 1) -> Any:
        """Return the state before decoding: all tokens but the last of each prompt are in the
        cache.

        Args:
            token_ids: int (batch, length), prompts filled up with padding.
            lengths: int tensor, scalar if all prompts are of one length, else (batch,).
            limit: most tokens to write.
            rows: decoded rows per prompt; the beams of a search.

        Returns: the ids to decode first, int (batch * rows,); the context and the cache that
            `step` takes.
        """
        batch, length = ops.shape(token_ids)[0], ops.shape(token_ids)[1]
        cache = self.prefill(token_ids, self.new_cache(batch, length))
        room = [[0, 0], [0, 0], [0, limit], [0, 0]]
        cache = [tuple(_repeat(ops.pad(x, room), rows) for x in pair) for pair in cache]
        last = ops.cast(lengths, "int32") - 1
        if len(last.shape) == 0:
            first_ids = ops.take(token_ids, last, axis=1)
        else:
            first_ids = ops.take_along_axis(token_ids, last[:, None], axis=1)[:, 0]
            last = _repeat(last, rows)
        return _repeat(first_ids, rows), last, cache

    def room(self, length: int) -> int:
        """Most tokens that may follow a prompt of `length` tokens."""
        return self.config.max_sequence_length - length

    def step(self, ids: Tensor, index: Tensor, context: Any, cache: Any) -> Any:
        """One step of decoding.

        Args:
            ids: int (rows,), the tokens chosen last.
            index: int; number of steps before this one.
            context: the context from `begin`, or a position: int tensor, scalar or (rows,).
            cache: the cache from `begin`, later from the step before.

        Returns: float32 (rows, vocabulary_size), logits of the next tokens, and the new cache.
        """
        position = ops.cast(context + index, "int32")
        if len(position.shape) == 1:
            # A row may have used up its room while its neighbours go on; its further tokens are
            # not read.
            position = ops.minimum(position, self.config.max_sequence_length - 1)
        tokens = ops.expand_dims(ids, 1)
        logits, cache = self.decode(tokens, cache=cache, position=position, training=False)
        return ops.cast(logits[:, 0], "float32"), cache


@serializable
class Seq2SeqLM(LanguageModel):
    """An encoder-decoder: reads one text, writes another, such as its translation.

    memory = encoder(embed(source));  logits = decoder(embed(target), memory) E^T

    Vaswani et al. (2017), section 3. Source and target share one vocabulary and one embedding
    table (3.4). Training, decoding and the exported files all run `encode` and `decode`.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Call arguments:
        inputs: {"encoder_token_ids": int (batch, source_length),
                 "decoder_token_ids": int (batch, target_length)}; the decoder's ids begin with
            `start_id`, both end in `padding_id` where a row is shorter. Or both as a tuple. To
            score the ids one step ahead also "targets": int (batch, target_length).

    Returns: float (batch, target_length, vocabulary_size), logits of the next token. With targets
        their `TokenScores`.
    """

    task = "seq2seq"
    reads = ("encoder_token_ids", "decoder_token_ids")
    may_read = ("targets",)
    stacks = ("num_layers", "num_decoder_layers")
    label_smoothing = 0.1

    @classmethod
    def fewest_parameters(cls, config: TransformerConfig) -> int:
        """See `TransformerModel`; blocks of the decoder attend twice."""
        square = config.hidden_dim * config.num_heads * config.head_dim
        feed_forward = 2 * config.hidden_dim * config.intermediate_dim
        decoder = config.num_decoder_layers * (4 * square + feed_forward)
        return super().fewest_parameters(config) + decoder

    @staticmethod
    def text_frame(tokenizer: Tokenizer) -> Frame:
        """Return the frame of a source: the end token after it."""
        return Frame(after=(tokenizer.end_id,))

    def __init__(self, config: TransformerConfig | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._check_padding()
        config = self.config
        self.encoder = TransformerStack(
            config, config.num_layers, name="encoder", dtype=self.dtype_policy
        )
        self.decoder = TransformerStack(
            config,
            config.num_decoder_layers,
            causal=True,
            cross=True,
            name="decoder",
            dtype=self.dtype_policy,
        )
        self._build_parts(self.encoder, self.decoder)

    @property
    def first_stack(self) -> TransformerStack:
        """The encoder."""
        return self.encoder

    def call(self, inputs, training=None):
        inputs = self.by_name(inputs)
        memory, mask = self.encode(inputs["encoder_token_ids"], training=training)
        return self.decode(
            inputs["decoder_token_ids"],
            memory,
            cross_attention_mask=mask,
            targets=inputs.get("targets"),
            training=training,
        )

    def encode(self, token_ids: Tensor, training: bool | None = None) -> Any:
        """Return the source as vectors, and the mask of its padding.

        Args:
            token_ids: int (batch, source_length).

        Returns: float (batch, source_length, hidden_dim) and bool (batch, 1, source_length), False
            for padding.
        """
        mask = ops.expand_dims(ops.not_equal(token_ids, self.config.padding_id), 1)
        memory = self.encoder(self.embedding(token_ids), attention_mask=mask, training=training)
        return memory, mask

    def decode(
        self,
        token_ids: Tensor,
        memory: Any,
        cross_attention_mask: Tensor | None = None,
        cache: Any = None,
        position: Tensor = 0,
        return_attention_scores: bool = False,
        training: bool | None = None,
        targets: Tensor | None = None,
        first_slot: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache_slots: int | None = None,
    ) -> Any:
        """Logits of the token after each given one: the one step of training and generation.

        Padding in the target needs no mask: it is at the end, where causal attention of earlier
        tokens cannot see it.

        Args:
            token_ids: int (batch, length).
            memory: the vectors from `encode`, or the result of `project_memory` if many steps
                follow.
            cross_attention_mask: the mask from `encode`.
            cache: the cache from `new_cache` or from the step before.
            position: int or int tensor; number of tokens already in the cache.
            return_attention_scores: also return the cross-attention weights of every block, each
                float (batch, num_heads, length, source_length).
            targets: int (batch, length); return their `TokenScores` instead of logits.
            first_slot: see `MultiHeadAttention`: the tokens are alternatives at one position.
            attention_mask: bool, broadcastable to (batch, length, keys), where keys are the tokens,
                or the slots of the cache; False hides one.
            cache_slots: read only the first slots of the cache; None: all.

        Returns: float (batch, length, vocabulary_size); then the new cache if one was given; then
            the attention weights if requested.
        """
        result = self.decoder(
            self.embedding(token_ids),
            memory=memory,
            cross_attention_mask=cross_attention_mask,
            cache=cache,
            position=position,
            return_attention_scores=return_attention_scores,
            training=training,
            first_slot=first_slot,
            attention_mask=attention_mask,
            cache_slots=cache_slots,
        )
        x, *extra = result if isinstance(result, tuple) else (result,)
        read = self._read_out(x, targets)
        return (read, *extra) if extra else read

    def project_memory(self, memory: Any) -> Any:
        """Cross-attention keys and values of every decoder block: see `TransformerStack`."""
        return self.decoder.project_memory(memory)

    def new_cache(self, batch_size: int, max_length: int) -> Any:
        """An empty key/value cache for `decode`: see `TransformerStack.new_cache`."""
        return self.decoder.new_cache(batch_size, max_length)

    def begin(self, token_ids: Tensor, lengths: Tensor, limit: Tensor, rows: int = 1) -> Any:
        """Return the state before decoding: the source is encoded and projected for
        cross-attention.

        Args:
            token_ids: int (batch, source_length), filled up with padding.
            lengths: not used: padding marks them.
            limit: most tokens to write.
            rows: decoded rows per source; the beams of a search.

        Returns: the ids to decode first, int (batch * rows,); the context and the cache that
            `step` takes.
        """
        memory, mask = self.encode(token_ids, training=False)
        memory = [tuple(_repeat(x, rows) for x in pair) for pair in self.project_memory(memory)]
        count = ops.shape(token_ids)[0] * rows
        first_ids = ops.full((count,), self.config.start_id, dtype="int32")
        return first_ids, (memory, _repeat(mask, rows)), self.new_cache(count, limit)

    def room(self, length: int) -> int:
        """Most tokens that may be written for a source of `length` tokens."""
        return self.config.max_sequence_length

    def step(self, ids: Tensor, index: Tensor, context: Any, cache: Any) -> Any:
        """One step of decoding: see `CausalLM.step`."""
        memory, mask = context
        logits, cache = self.decode(
            ops.expand_dims(ids, 1),
            memory,
            cross_attention_mask=mask,
            cache=cache,
            position=index,
            training=False,
        )
        return ops.cast(logits[:, 0], "float32"), cache


def _repeat(x, times: int):
    return x if times == 1 else ops.repeat(x, times, axis=0)
