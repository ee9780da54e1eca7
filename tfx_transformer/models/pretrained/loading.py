"""The weights of a checkpoint into a model, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.checkpoint import Checkpoint, StoredTensor
from tfx_transformer.models.pretrained.family import Change, Family, Group, Tensor
from tfx_transformer.models.saving import parameters

# Larger tensors are copied in pieces of about so many bytes, so that no second whole one exists.
_PIECE = 32 * 1024 * 1024

# What older versions of transformers stored beside the weights, computed or tied.
_COMPUTED = (
    ".attn.bias",
    ".attn.masked_bias",
    ".rotary_emb.inv_freq",
    "embeddings.position_ids",
    "embed_positions.weight",
    ".embed_tokens.weight",
)


def load_weights(model: keras.Model, family: Family, checkpoint: Checkpoint) -> None:
    """Sets every variable of a model.

    A text model may have fewer learned positions than the checkpoint: it gets the first ones.

    Args:
        model: made from the fields of `family`.

    Raises:
        InputError: a tensor is missing, of another shape, or has no place in the model; all of them
            are named, and nothing is set.
    """
    variables = parameters(model)
    places = family.places(checkpoint.config, model.task, variables)
    # A model without a head is stored without its family's prefix: so both look alike.
    tensors = {_bare(name, family): tensor for name, tensor in checkpoint.tensors.items()}
    missing = [n for n in _names(places) if _bare(n, family) not in tensors]
    if problems := [f"{name} is missing" for name in missing] + list(
        _left_over(model, family, places, tensors)
    ):
        raise _misfit(checkpoint, problems)
    groups = [place for place in places if isinstance(place, Group)]
    singles = [place for place in places if isinstance(place, Tensor)]
    loaded = {}
    for group in groups:
        arrays = [tensors[_bare(n, family)].read().astype("float32") for n in group.theirs]
        loaded |= dict(zip(group.ours, group.load(arrays), strict=True))
    stored = {place.ours: (tensors[_bare(place.theirs, family)], place) for place in singles}
    for path in [*loaded, *stored]:
        if path.endswith("positions/embeddings") and not model.config.image_size:
            most = variables[path].shape[0]
            if path in loaded:
                loaded[path] = loaded[path][:most]
            else:
                tensor, place = stored[path]
                stored[path] = (tensor.first(most), place)
    _check_shapes(checkpoint, variables, loaded, stored)
    for path, array in loaded.items():
        variables[path].assign(array)
    for path, (tensor, place) in stored.items():
        _assign(variables[path], tensor, place.change)


def _names(places: Sequence[Tensor | Group]) -> list[str]:
    nested = ((p.theirs,) if isinstance(p, Tensor) else p.theirs for p in places)
    return [name for names in nested for name in names]


def _bare(name: str, family: Family) -> str:
    return name.removeprefix(family.prefix)


def _left_over(model, family: Family, places, tensors: Mapping) -> Iterator[str]:
    """Tensors that would be lost: none of a head that the task does without."""
    used = {_bare(name, family) for name in _names(places)}
    for name in sorted(tensors.keys() - used):
        tied = name == "lm_head.weight" and model.config.tie_embeddings
        heads = tuple(_bare(head, family) for head in family.heads)
        if not (tied or name.startswith(heads) or name.endswith(_COMPUTED)):
            yield f"{name} has no place in the model"


def _check_shapes(checkpoint, variables, loaded, stored) -> None:
    problems = []
    for path, array in loaded.items():
        if tuple(array.shape) != tuple(variables[path].shape):
            expected = tuple(variables[path].shape)
            problems.append(f"{path} would have shape {array.shape}, expected {expected}")
    for path, (tensor, place) in stored.items():
        expected = tuple(variables[path].shape)
        expected = expected[::-1] if place.change == "transposed" else expected
        if tensor.shape != expected:
            problems.append(f"{place.theirs} has shape {tensor.shape}, expected {expected}")
    if problems:
        raise _misfit(checkpoint, problems)


def _misfit(checkpoint: Checkpoint, problems: Sequence[str]) -> InputError:
    more = [f"and {len(problems) - 20} more"] if len(problems) > 20 else []
    return InputError(
        f"{checkpoint.folder}: the weights do not fit config.json:\n  "
        + "\n  ".join([*problems[:20], *more])
    )


def _assign(variable: keras.Variable, tensor: StoredTensor, change: Change) -> None:
    """Sets a variable; on TensorFlow a large one piece by piece."""
    rows = max(_PIECE // max(4 * math.prod(tensor.shape[1:]), 1), 1)
    whole = len(tensor.shape) < 2 or rows >= tensor.shape[0]
    if whole or keras.backend.backend() != "tensorflow":
        variable.assign(_changed(tensor.read(), change).astype(variable.dtype))
        return
    for start in range(0, tensor.shape[0], rows):
        stop = min(start + rows, tensor.shape[0])
        piece = _changed(tensor.read(start, stop), change).astype(variable.dtype)
        here = np.s_[:, start:stop] if change == "transposed" else np.s_[start:stop]
        variable.value[here].assign(piece)


def _changed(array: np.ndarray, change: Change) -> np.ndarray:
    if change == "transposed":
        return array.T
    if change == "less_one":
        return array.astype("float32") + 1
    return array
