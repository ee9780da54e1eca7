"""Models for tasks: a token embedding, one or two stacks, and a read-out."""

from __future__ import annotations

import keras
from keras import ops

from tfx_transformer.config import TransformerConfig
from tfx_transformer.layers import TokenEmbedding
from tfx_transformer.layers.position import PACKAGE
from tfx_transformer.models.losses import Perplexity, TokenAccuracy, TokenCrossentropy
from tfx_transformer.models.transformer import TransformerStack


@keras.saving.register_keras_serializable(PACKAGE)
class Seq2SeqLM(keras.Model):
    """An encoder-decoder: reads one text, writes another, such as its translation.

    memory = encoder(embed(source));  logits = decoder(embed(target), memory) E^T

    Vaswani et al. (2017), section 3. Source and target share one vocabulary and one embedding
    table (3.4). Training, decoding and the exported files all run `encode` and `decode`.

    Args:
        config: `TransformerConfig`, or its dictionary.

    Call arguments:
        inputs: {"encoder_token_ids": int (batch, source_length),
                 "decoder_token_ids": int (batch, target_length)}; the decoder's ids begin with
            `start_id`, both end in `padding_id` where a row is shorter.

    Returns: float (batch, target_length, vocabulary_size), logits of the next token.
    """

    task = "seq2seq"

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        config = TransformerConfig.from_dict(config) if isinstance(config, dict) else config
        self.config = config
        self.embedding = TokenEmbedding(
            config.vocabulary_size,
            config.hidden_dim,
            scale=config.hidden_dim**0.5 if config.scale_embedding else 1.0,
            tie_weights=config.tie_embeddings,
            name="embedding",
            dtype=self.dtype_policy,
        )
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
        # The configuration tells every shape, so the weights exist from here on.
        for part in (self.embedding, self.encoder, self.decoder):
            part.build((None, None, config.hidden_dim))
            part.built = True
        self.built = True

    def compile(self, optimizer="adamw", loss=None, weighted_metrics=None, **kwargs):
        """`keras.Model.compile`; by default with `TokenCrossentropy(label_smoothing=0.1)`, token
        accuracy and perplexity, all of them without padding."""
        super().compile(
            optimizer,
            loss=TokenCrossentropy(label_smoothing=0.1) if loss is None else loss,
            weighted_metrics=(
                [TokenAccuracy(), Perplexity()] if weighted_metrics is None else weighted_metrics
            ),
            **kwargs,
        )

    def call(self, inputs, training=None):
        memory, mask = self.encode(inputs["encoder_token_ids"], training=training)
        return self.decode(
            inputs["decoder_token_ids"], memory, cross_attention_mask=mask, training=training
        )

    def get_compile_config(self):
        return self._compile_config.serialize()

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def encode(self, token_ids, training=None):
        """The source as vectors, and which of them are no padding.

        Args:
            token_ids: int (batch, source_length).

        Returns: float (batch, source_length, hidden_dim) and bool (batch, 1, source_length).
        """
        mask = ops.expand_dims(ops.not_equal(token_ids, self.config.padding_id), 1)
        memory = self.encoder(self.embedding(token_ids), attention_mask=mask, training=training)
        return memory, mask

    def decode(
        self,
        token_ids,
        memory,
        cross_attention_mask=None,
        cache=None,
        position=0,
        return_attention_scores=False,
        training=None,
    ):
        """Logits of the token after each given one: the one step of training and generation.

        Padding in the target needs no mask: it stands at the end, where causal attention of the
        tokens before cannot see it.

        Args:
            token_ids: int (batch, length).
            memory: of `encode`, or of `project_memory` when many steps follow.
            cross_attention_mask: of `encode`.
            cache: of `new_cache` or of the step before.
            position: int or int tensor; number of tokens already in the cache.
            return_attention_scores: also return the cross-attention weights of every block, each
                float (batch, num_heads, length, source_length).

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
        )
        x, *extra = result if isinstance(result, tuple) else (result,)
        logits = self.embedding(x, reverse=True)
        return (logits, *extra) if extra else logits

    def project_memory(self, memory):
        """Cross-attention keys and values of every decoder block: see `TransformerStack`."""
        return self.decoder.project_memory(memory)

    def new_cache(self, batch_size, max_length):
        """An empty key/value cache for `decode`: see `TransformerStack.new_cache`."""
        return self.decoder.new_cache(batch_size, max_length)

    def get_config(self):
        return {**super().get_config(), "config": self.config.to_dict()}
