"""Names of tensors: those that published checkpoints have, brought to those of their family."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.checkpoint import Checkpoint, StoredTensor
from tfx_transformer.models.pretrained.family import Family, Group, Tensor, shared_task

# Norms of checkpoints that were converted from TensorFlow, such as google-bert/bert-base-uncased.
_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}

# What older versions of transformers stored beside the weights, though it is computed: masks,
# positions, frequencies; and the scores of distances that T5's cross-attention never reads.
_COMPUTED = re.compile(
    r"(\.attn\.bias|\.attn\.masked_bias|\.attention\.bias|\.attention\.masked_bias"
    r"|rotary_emb\.(inv_freq|cos_cached|sin_cached)|embeddings\.(position_ids|token_type_ids)"
    r"|embed_positions\.weights?|EncDecAttention\.relative_attention_bias\.weight)$"
)

# Copies of the embedding table, one for each stack that reads it.
COPIES = re.compile(r"(^|\.)(encoder|decoder)\.embed_tokens\.weight$")

# Read-outs of other tasks, which a model of this task does without. What a family calls its own
# ones otherwise is in its row.
_HEADS = (
    "cls.",
    "lm_head.",
    "pooler.",
    "classifier.",
    "pre_classifier.",
    "classification_head.",
    "multiple_choice_head.",
    "cls_classifier.",
    "distillation_classifier.",
    "qa_outputs.",
    "score.",
    "v_head.",
    "sentence.",
)
# Those that belong to a task: a tensor of theirs without a place would be lost.
_OWN = {
    "causal": ("lm_head.",),
    "seq2seq": ("lm_head.", "decoder."),
    "masked": ("cls.predictions.", "lm_head."),
    "classification": ("classifier.", "score.", "pre_classifier.", "classification_head."),
    "tagging": ("classifier.",),
    "embedding": ("sentence.",),
}


def bare_name(name: str, family: Family) -> str:
    """A name without the prefix that the tensors of a model with a head have."""
    return name.removeprefix(family.prefix)


def names_of(places: Iterable[Tensor | Group]) -> list[str]:
    """Every name of a checkpoint's tensors in places."""
    nested = ((p.theirs,) if isinstance(p, Tensor) else p.theirs for p in places)
    return [name for names in nested for name in names]


def by_bare_name(checkpoint: Checkpoint, family: Family, task: str) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint by the bare names of its family.

    What else stands ahead of all names is taken off: `module.` of PyTorch's DataParallel, or the
    name that a program gave to a part of its own. Endings of TensorFlow become those of PyTorch.
    Where a family has two names for one tensor, the one that is computed with counts.

    Raises:
        InputError: two tensors are the same one.
    """
    tensors, folder = checkpoint.tensors, checkpoint.folder
    modern: dict[str, StoredTensor] = {}
    older: dict[str, str] = {}
    for name, tensor in tensors.items():
        new = _modern(name, family)
        if new in modern:
            raise InputError(f"{folder}: {name} and {older[new]} are the same tensor.")
        modern[new], older[new] = tensor, name
    expected = names_of(family.layout(checkpoint.config, task))
    ahead = _ahead(modern, {bare_name(name, family) for name in expected})
    if family.prefix and ahead.endswith(family.prefix):
        ahead = ahead.removesuffix(family.prefix)
    found: dict[str, StoredTensor] = {}
    for name, tensor in modern.items():
        short = bare_name(name.removeprefix(ahead), family)
        if short in found:
            raise InputError(f"{folder}: {short} stands there twice, with and without a prefix.")
        found[short] = tensor
    for used, other in family.same.items():
        if bare_name(used, family) in found:
            found[bare_name(other, family)] = found.pop(bare_name(used, family))
    return found


def has_own_head(checkpoint: Checkpoint, family: Family, task: str) -> bool:
    """Return True if the vocabulary is read out by numbers other than the embedding table's, which
    then count whatever `tie_word_embeddings` says, as in transformers 5."""
    theirs = {
        place.ours: bare_name(place.theirs, family)
        for place in family.layout(checkpoint.config, task)
        if isinstance(place, Tensor)
    }
    tensors = by_bare_name(checkpoint, family, task)
    table = tensors.get(theirs.get("embedding/embeddings", ""))
    head = tensors.get(theirs.get("embedding/reverse_embeddings", ""))
    return table is not None and head is not None and not same_numbers(table, head)


def same_numbers(one: StoredTensor, other: StoredTensor, rows: int = 4096) -> bool:
    """Return True if two tensors hold the same numbers; they are read until one differs."""
    if one.shape != other.shape or not one.shape:
        return False
    for start in range(0, one.shape[0], rows):
        parts = (tensor.read(start, start + rows) for tensor in (one, other))
        if not np.array_equal(*(part.astype("float32") for part in parts), equal_nan=True):
            return False
    return True


def left_over(family: Family, task: str, used: Iterable[str], tensors: Iterable[str]) -> list[str]:
    """Bare names of tensors that would be lost: neither used, nor computed, nor of the head of
    another task."""
    heads = (*_HEADS, *(bare_name(head, family) for head in family.heads))
    lost = []
    for name in sorted(set(tensors) - set(used)):
        other_head = name.startswith(heads) and not name.startswith(_OWN.get(shared_task(task), ()))
        if not (other_head or _COMPUTED.search(name) or COPIES.search(name)):
            lost.append(name)
    return lost


def _modern(name: str, family: Family) -> str:
    for old, new in family.renamed:
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in _OLD_ENDINGS.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _ahead(names: Iterable[str], expected: set[str]) -> str:
    """Return what most names have ahead of an expected one, such as "module.bert."; "" if
    nothing."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in expected:
                counts["".join(f"{part}." for part in parts[:start])] += 1
                break
    return counts.most_common(1)[0][0] if counts else ""
