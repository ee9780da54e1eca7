"""The names of tensors in published checkpoints, mapped to those of their family."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.checkpoint import Checkpoint, StoredTensor
from tfx_transformer.models.pretrained.family import Family, Group, Tensor, shared_task

# Endings in checkpoints converted from TensorFlow, such as google-bert/bert-base-uncased.
_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}

# Computed values that older versions of transformers stored too: masks, positions, frequencies; and
# T5's relative position scores of cross-attention, which are never read.
_COMPUTED = re.compile(
    r"(\.attn\.bias|\.attn\.masked_bias|\.attention\.bias|\.attention\.masked_bias"
    r"|rotary_emb\.(inv_freq|cos_cached|sin_cached)|embeddings\.(position_ids|token_type_ids)"
    r"|embed_positions\.weights?|EncDecAttention\.relative_attention_bias\.weight)$"
)

# Copies of the embedding table, one for each stack that reads it.
COPIES = re.compile(r"(^|\.)(encoder|decoder)\.embed_tokens\.weight$")

# Heads of other tasks, which a model of this task does not need. Further names are in the row of a
# family.
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
# The heads of each task: a tensor of these without a place would be lost.
_OWN = {
    "causal": ("lm_head.",),
    "seq2seq": ("lm_head.", "decoder."),
    "masked": ("cls.predictions.", "lm_head."),
    "classification": ("classifier.", "score.", "pre_classifier.", "classification_head."),
    "tagging": ("classifier.",),
    "embedding": ("sentence.",),
}


def bare_name(name: str, family: Family) -> str:
    """Return a name without the prefix that it has in a model with a head."""
    return name.removeprefix(family.prefix)


def names_of(places: Iterable[Tensor | Group]) -> list[str]:
    """Return all names of a checkpoint's tensors in places."""
    nested = ((p.theirs,) if isinstance(p, Tensor) else p.theirs for p in places)
    return [name for names in nested for name in names]


def by_bare_name(checkpoint: Checkpoint, family: Family, task: str) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint by the bare names of its family.

    A further prefix of all names is removed: `module.` of PyTorch's DataParallel, or a program's
    name for a part of its own. TensorFlow's endings become PyTorch's. If a family has two names for
    one tensor, the one that the model computes with is used.

    Raises:
        InputError: two tensors have the same name then.
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
            raise InputError(f"{folder}: {short} is there twice, with and without a prefix.")
        found[short] = tensor
    for used, other in family.same.items():
        if bare_name(used, family) in found:
            found[bare_name(other, family)] = found.pop(bare_name(used, family))
    return found


def has_own_head(checkpoint: Checkpoint, family: Family, task: str) -> bool:
    """Return True if the read-out of the vocabulary has other numbers than the embedding table. It
    is then used whatever `tie_word_embeddings` is, as in transformers 5."""
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
    """Return True if two tensors have the same numbers; they are read until one differs."""
    if one.shape != other.shape or not one.shape:
        return False
    for start in range(0, one.shape[0], rows):
        parts = (tensor.read(start, start + rows) for tensor in (one, other))
        if not np.array_equal(*(part.astype("float32") for part in parts), equal_nan=True):
            return False
    return True


def left_over(family: Family, task: str, used: Iterable[str], tensors: Iterable[str]) -> list[str]:
    """Return the bare names of tensors that would be lost: neither used, nor computed, nor of the
    head of another task."""
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
    """Return the prefix that most names have before an expected one, such as "module.bert.", or
    ""."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in expected:
                counts["".join(f"{part}." for part in parts[:start])] += 1
                break
    return counts.most_common(1)[0][0] if counts else ""
