"""The base of models with logits over the vocabulary."""

from __future__ import annotations

from typing import Any

import keras

from tfx_transformer.annotations import Tensor
from tfx_transformer.models.base import TransformerModel
from tfx_transformer.models.token_scores import TokenScores, score_in_chunks


class TokenModel(TransformerModel):
    """A model whose loss and metrics may read the scores of the right tokens instead of all logits.

    So loss and metrics share one softmax, and many logits are computed in chunks: see
    `score_in_chunks`. That needs a loss and metrics whose class says `takes_token_scores`.

    A subclass has `logits_of` and `read_out_variables`, and returns `scores_of` if its inputs have
    "targets".

    Args:
        config: `TransformerConfig`, or its dictionary.
    """

    scores_suffice = False

    def logits_of(self, x: Tensor) -> Tensor:
        """float (batch, length, width) -> logits over the vocabulary, float (batch, length,
        vocabulary_size)."""
        raise NotImplementedError

    @property
    def read_out_variables(self) -> list[keras.Variable]:
        """The variables that `logits_of` reads."""
        raise NotImplementedError

    def scores_of(self, x: Tensor, token_ids: Tensor) -> TokenScores:
        """Return the scores of tokens, from float (batch, length, width), int (batch, length)."""
        return score_in_chunks(
            self.logits_of, x, token_ids, self.read_out_variables, self.config.vocabulary_size
        )

    def compile(self, *arguments: Any, **options: Any) -> None:
        """`keras.Model.compile`."""
        super().compile(*arguments, **options)
        given = [self.loss, *options.get("weighted_metrics", ())]
        # The class itself says so: one derived from it may read logits.
        suffices = [vars(type(one)).get("takes_token_scores", False) for one in given]
        others = options.get("metrics") or options.get("loss_weights")
        self.scores_suffice = all(suffices) and not others

    def with_targets(self, batch: Any) -> Any:
        """Return (x, y, sample_weight) of a batch; x has "targets" if their scores suffice."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        if not self.scores_suffice or len(getattr(y, "shape", ())) != 2:
            return batch
        return {**self.by_name(x), "targets": y}, y, weights

    def test_step(self, *arguments: Any) -> Any:
        """Evaluate one batch, as Keras does."""
        *state, batch = arguments
        return super().test_step(*state, self.with_targets(batch))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss; y_pred are logits or `TokenScores`."""
        if not isinstance(y_pred, TokenScores):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss = self.loss(y, y_pred, sample_weight)
        for other in self.losses:
            loss = loss + self._aggregate_additional_loss(other)
        return loss

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Update the metrics and return their values; y_pred are logits or `TokenScores`."""
        if not isinstance(y_pred, TokenScores):
            return super().compute_metrics(x, y, y_pred, sample_weight)
        compiled = self._compile_metrics
        if compiled is not None:
            if not compiled.built:
                compiled.build(y, y_pred.losses)
            for metric in compiled.metrics:
                metric.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()
