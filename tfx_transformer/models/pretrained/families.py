"""The known families of checkpoints."""

from __future__ import annotations

from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.bart import BART
from tfx_transformer.models.pretrained.bert import BERT, ROBERTA
from tfx_transformer.models.pretrained.distilbert import DISTILBERT
from tfx_transformer.models.pretrained.electra import ELECTRA
from tfx_transformer.models.pretrained.family import Family, shared_task
from tfx_transformer.models.pretrained.gemma import GEMMA, GEMMA2, GEMMA3
from tfx_transformer.models.pretrained.gpt2 import GPT2
from tfx_transformer.models.pretrained.gpt_neox import GPT_NEOX
from tfx_transformer.models.pretrained.llama import LLAMA, MISTRAL, QWEN
from tfx_transformer.models.pretrained.modernbert import MODERNBERT
from tfx_transformer.models.pretrained.mpnet import MPNET
from tfx_transformer.models.pretrained.opt import OPT
from tfx_transformer.models.pretrained.phi3 import PHI3
from tfx_transformer.models.pretrained.seq2seq import MARIAN, T5
from tfx_transformer.models.pretrained.smollm3 import SMOLLM3
from tfx_transformer.models.pretrained.vit import DEIT, VIT

# A model that two families can express is written as the first of them.
FAMILIES = (
    BERT,
    ROBERTA,
    DISTILBERT,
    ELECTRA,
    MPNET,
    MODERNBERT,
    GPT2,
    LLAMA,
    MISTRAL,
    QWEN,
    SMOLLM3,
    PHI3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GPT_NEOX,
    OPT,
    T5,
    MARIAN,
    BART,
    VIT,
    DEIT,
)


def family_of(config: dict[str, Any], where: Any) -> Family:
    """Return the family of a config.json.

    Raises:
        InputError: its family is unknown.
    """
    kind = config.get("model_type")
    for family in FAMILIES:
        if kind in family.model_types:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise InputError(f"{where}: checkpoints of type {kind!r} are not known.\n  Known are {known}.")


def task_of(family: Family, config: dict[str, Any]) -> str:
    """Return the task of a checkpoint, by the name of its architecture. If its head is for an
    unknown task, such as *ForQuestionAnswering, return the task of the model without a head."""
    if not config.get("architectures"):
        return next(iter(family.tasks.values()))
    ending = _ending(family, config)
    if ending is not None:
        task = family.tasks[ending]
        other = _PROBLEMS.get(config.get("problem_type"))
        is_other = other is not None and shared_task(other) == task and count_outputs(config) == 1
        return other if is_other else task
    return family.tasks.get("Model") or next(iter(family.tasks.values()))


def count_outputs(config: dict[str, Any]) -> int:
    """Return the number of outputs of a classifier's architecture, by its config.json; two, as in
    transformers, if it does not say."""
    names, count = config.get("id2label"), config.get("num_labels")
    if isinstance(names, dict) and names:
        return len(names)
    return count if isinstance(count, int) and count > 0 else 2


def has_head(family: Family, config: dict[str, Any]) -> bool:
    """Return True if a checkpoint was saved with the read-out of its task."""
    if not config.get("architectures"):
        return True
    return _ending(family, config) not in (None, *_BARE)


# `problem_type` of a classifier's config.json -> task.
_PROBLEMS = {"regression": "regression"}
# Endings of the names of architectures without a head.
_BARE = ("Model", "EncoderModel", "TextModel")


def _ending(family: Family, config: dict[str, Any]) -> str | None:
    for name in config["architectures"]:
        for ending in sorted(family.tasks, key=len, reverse=True):
            if str(name).endswith(ending):
                return ending
    return None
