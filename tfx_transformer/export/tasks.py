"""The exports of each task, and their comparison with the model: one row for each task.

A new task is a new row here, and its own code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from tfx_transformer import bundle
from tfx_transformer.errors import InputError
from tfx_transformer.export.generator_serving import generator_serving
from tfx_transformer.export.serving import (
    classifier_serving,
    embedder_serving,
    regressor_serving,
    tagger_serving,
)
from tfx_transformer.export.signatures import (
    causal_signatures,
    encoder_signatures,
    seq2seq_signatures,
)
from tfx_transformer.export.verify_encoder import (
    CLASSIFIER,
    EMBEDDER,
    REGRESSOR,
    TAGGER,
    verify_encoder,
)
from tfx_transformer.export.verify_generator import CAUSAL, SEQ2SEQ, verify_generator
from tfx_transformer.models.base import TransformerModel


class Task(NamedTuple):
    """The row of a task: the export of its models.

    Attributes:
        signatures: (model, beams, context, rows) -> the functions of a TFLite file, as name ->
            (function, input signature), with static shapes only. A model that writes also gets a
            decode step for `rows` texts (None: the default), an encoder-decoder also one for
            `beams` beams. A decoder-only model has a cache of `context` slots (None:
            `max_sequence_length`).
        serving: (model, tokenizer, config.json) -> the endpoint of a SavedModel.
        verify: (bundle's folder, inputs, model, tokenizer, file names, generator) -> results of
            each export; `generator` is the model's generator or predictor, or None: see
            `verification.verify`.
        also: names of further files that `everything` makes.
        has_context: True if the context of a TFLite file may be shorter than the model's.
    """

    signatures: Callable[..., dict[str, tuple]]
    serving: Callable[..., tuple]
    verify: Callable[..., dict[str, dict[str, Any]]]
    also: tuple[str, ...] = ()
    has_context: bool = False


TASKS = {
    "causal": Task(
        causal_signatures,
        generator_serving,
        functools.partial(verify_generator, CAUSAL),
        also=(bundle.LITERTLM,),
        has_context=True,
    ),
    "seq2seq": Task(
        seq2seq_signatures, generator_serving, functools.partial(verify_generator, SEQ2SEQ)
    ),
    "classification": Task(
        encoder_signatures, classifier_serving, functools.partial(verify_encoder, CLASSIFIER)
    ),
    "embedding": Task(
        encoder_signatures, embedder_serving, functools.partial(verify_encoder, EMBEDDER)
    ),
    "tagging": Task(encoder_signatures, tagger_serving, functools.partial(verify_encoder, TAGGER)),
    "regression": Task(
        encoder_signatures, regressor_serving, functools.partial(verify_encoder, REGRESSOR)
    ),
}


def task_of(model: TransformerModel) -> Task:
    """Return the row of a model's task.

    Raises:
        InputError: models of its task are not exported.
    """
    if model.task not in TASKS:
        raise InputError(f"a {model.task} model is a base and answers nothing.\n  Fine-tune it.")
    return TASKS[model.task]
