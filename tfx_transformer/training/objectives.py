"""The objectives of pre-training: to predict the next token, or masked tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfx_transformer.data.corpus import TokenFile, blocks, sample_prefixes
from tfx_transformer.data.masking import mask_tokens
from tfx_transformer.errors import InputError
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.encoders import MaskedLM
from tfx_transformer.models.losses import BitsPerByte, Perplexity, TokenAccuracy
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.text.prompts import ROLE_TOKENS
from tfx_transformer.text.tokenizer import MASK_TOKEN, Tokenizer


@dataclasses.dataclass(frozen=True)
class Objective:
    """One kind of pre-training.

    Attributes:
        model: class of the model.
        special_tokens: tokens of its tokenizer next to those that every tokenizer has.
        batches: (tokens, tokenizer, length=, batch_size=, …) -> `tf.data.Dataset`.
        measures: held-out text -> metrics.
        jit_compile: True if all batches have one shape.
        prompts: (held-out text, tokenizer) -> prompts of the previews; [] if it writes no text.
    """

    model: type[keras.Model]
    special_tokens: Sequence[str]
    batches: Callable[..., Any]
    measures: Callable[[TokenFile], list[keras.metrics.Metric]]
    jit_compile: bool
    prompts: Callable[[TokenFile, Tokenizer], list[str]]

    @property
    def task(self) -> str:
        """The task of the model, as a bundle names it."""
        return self.model.task

    def writer(self, model: keras.Model, tokenizer: Tokenizer):
        """Return the model's `TextGenerator`; None if it writes no text."""
        return text_generator(model, tokenizer) if self.model.writes else None


_OBJECTIVES = {
    "causal": Objective(
        CausalLM,
        ROLE_TOKENS,
        lambda tokens, tokenizer, **options: blocks(tokens, **options),
        lambda held_out: [TokenAccuracy(), BitsPerByte(held_out.bytes_per_token)],
        jit_compile=True,
        prompts=sample_prefixes,
    ),
    "masked": Objective(
        MaskedLM,
        (MASK_TOKEN,),
        mask_tokens,
        lambda held_out: [TokenAccuracy(), Perplexity()],
        jit_compile=False,
        prompts=lambda held_out, tokenizer: [],
    ),
}


def objective(name: str) -> Objective:
    """Return the objective "causal" (Radford et al. 2018) or "masked" (Devlin et al. 2019).

    Raises:
        InputError: another name.
    """
    if name not in _OBJECTIVES:
        raise InputError(
            f"there is no objective {name!r}.\n  Objectives: {', '.join(_OBJECTIVES)}."
        )
    return _OBJECTIVES[name]
