"""The weights of a checkpoint into a model, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.models.lora import store_base
from tfx_transformer.models.pretrained.checkpoint import Checkpoint, StoredTensor
from tfx_transformer.models.pretrained.families import has_head
from tfx_transformer.models.pretrained.family import Family, Group, Tensor
from tfx_transformer.models.pretrained.names import (
    COPIES,
    bare_name,
    by_bare_name,
    left_over,
    names_of,
    same_numbers,
)
from tfx_transformer.models.saving import check_size, parameters
from tfx_transformer.models.scopes import without_memory

# Variables of heads, which are new if a checkpoint was saved without a head.
_READ_OUT = ("embedding/reverse_embeddings", "logits_bias", "logits/kernel", "logits/bias")


def new_model(
    cls,
    config,
    dtype: str,
    family: Family,
    checkpoint: Checkpoint,
    base_dtype: str | None = None,
) -> keras.Model:
    """Return a model with the weights of a checkpoint.

    The weights are the initial values of the variables: no memory and no random numbers are spent
    on values that would be replaced, and there is no second copy of the weights.

    A text model may have fewer learned positions than the checkpoint: it gets the first ones.

    Args:
        cls: class of the model.
        config: made from the fields of `family`.
        dtype: policy of the model.
        family: family of the checkpoint.
        checkpoint: the checkpoint.
        base_dtype: form of the kernels under adapters: see `store_base`; None: as `dtype`.

    Raises:
        InputError: a tensor is missing, has another shape, or has no place in the model; the
            message names up to 20 of them.
    """
    check_size(config, cls, sum(t.size for t in checkpoint.tensors.values()), checkpoint.folder)
    # Keras initializes the variables when the scope ends.
    with keras.StatelessScope():
        model = cls(config, dtype=dtype)
        _set_initializers(model, family, checkpoint)
        if base_dtype is not None:
            store_base(model, base_dtype)
    return model


def check_names(cls, config, family: Family, checkpoint: Checkpoint) -> keras.Model:
    """Return the model of a checkpoint, without memory for its weights, after a check of the names
    and shapes of tensors.

    Args:
        cls, config, family, checkpoint: as in `new_model`.

    Raises:
        InputError: as in `new_model`.
    """
    held = sum(tensor.size for tensor in checkpoint.tensors.values())
    check_size(config, cls, held, checkpoint.folder)
    with without_memory():
        model = cls(config)
        _set_initializers(model, family, checkpoint)
    return model


def _set_initializers(model: keras.Model, family: Family, checkpoint: Checkpoint) -> None:
    variables = parameters(model)
    places = family.places(checkpoint.config, model.task, variables)
    tensors = by_bare_name(checkpoint, family, model.task)
    if not has_head(family, checkpoint.config):
        places = _with_new_read_out(places, family, tensors)
    left_out = {name for name in family.optional if bare_name(name, family) not in tensors}
    places = [place for place in places if not left_out.intersection(names_of([place]))]
    missing = [n for n in names_of(places) if bare_name(n, family) not in tensors]
    problems = [f"{name} is missing" for name in missing]
    problems += _without_place(model, family, checkpoint, places, tensors)
    if problems:
        raise _misfit(checkpoint, problems)
    for place in places:
        theirs = (place.theirs,) if isinstance(place, Tensor) else place.theirs
        stored = [tensors[bare_name(name, family)] for name in theirs]
        for index, path in enumerate((place.ours,) if isinstance(place, Tensor) else place.ours):
            expected = tuple(variables[path].shape)
            cut = path.endswith("positions/embeddings") and _may_be_cut(model.config)
            value = _Value(place, stored, index, expected[0] if cut else None)
            if value.shape != expected:
                problems.append(f"{', '.join(theirs)} {value.describe(expected)}")
            variables[path]._initializer = value
    if problems:
        raise _misfit(checkpoint, problems)


def _may_be_cut(config) -> bool:
    """Return True if a model may have fewer learned positions: a text's context may be shorter, an
    image is always read whole."""
    return config.position == "learned" and not config.image_size


class _Value:
    """The initial value of a variable, read when Keras needs it.

    Args:
        place: place of the variable.
        stored: the tensors of the place.
        index: index of the variable in a `Group`.
        most: keep at most so many rows, the first ones; None: all.
    """

    def __init__(self, place, stored: Sequence[StoredTensor], index: int, most: int | None) -> None:
        self.place, self.stored, self.index, self.most = place, stored, index, most
        if isinstance(place, Group):
            self.shape = self._array().shape
            return
        if most is not None:
            self.stored = [stored[0].first(most)]
        self.shape = self.stored[0].shape
        if place.change == "transposed":
            self.shape = self.shape[::-1]

    def __call__(self, shape, dtype=None) -> np.ndarray:
        return np.ascontiguousarray(self._array().astype(dtype, copy=False))

    def _array(self) -> np.ndarray:
        if isinstance(self.place, Group):
            arrays = [tensor.read().astype("float32") for tensor in self.stored]
            return self.place.load(arrays)[self.index][: self.most]
        array = self.stored[0].read()
        if self.place.change == "transposed":
            return array.T
        return array.astype("float32") + 1 if self.place.change == "less_one" else array

    def describe(self, expected: tuple[int, ...]) -> str:
        """Return its shape and the expected one in words, in the checkpoint's order of axes."""
        shape = self.shape
        if isinstance(self.place, Tensor) and self.place.change == "transposed":
            shape, expected = shape[::-1], expected[::-1]
        return f"has shape {shape}, expected {expected}"


def _with_new_read_out(places, family: Family, tensors) -> list[Tensor | Group]:
    """Return the places of a model whose checkpoint has no head: the read-out of a vocabulary is a
    copy of the embedding table, to be trained; that of classes is new."""
    kept: list[Tensor | Group] = []
    for place in places:
        ours = (place.ours,) if isinstance(place, Tensor) else place.ours
        if all(bare_name(name, family) in tensors for name in names_of([place])):
            kept.append(place)
        elif ours == ("embedding/reverse_embeddings",):
            table = next(p.theirs for p in places if p.ours == "embedding/embeddings")
            kept.append(Tensor(ours[0], table, "transposed"))
        elif not set(ours) <= set(_READ_OUT):
            kept.append(place)
    return kept


def _without_place(model, family: Family, checkpoint: Checkpoint, places, tensors) -> list[str]:
    """Return the problems of tensors that the model does not use."""
    used = {bare_name(name, family) for name in names_of(places)}
    layout = family.layout(checkpoint.config, model.task)
    theirs = {p.ours: bare_name(p.theirs, family) for p in layout if isinstance(p, Tensor)}
    if model.config.tie_embeddings:
        used.add(theirs.get("embedding/reverse_embeddings", ""))  # the same numbers: `config_of`
    problems = [
        f"{name} has no place in the model" for name in left_over(family, model.task, used, tensors)
    ]
    table = tensors.get(theirs.get("embedding/embeddings", ""))
    for name in sorted(tensors.keys() - used):
        if table is not None and COPIES.search(name) and not same_numbers(table, tensors[name]):
            problems.append(f"{name} is not the copy of the embedding table that it should be")
    return problems + [
        f"{name} has other numbers than the model computes"
        for name, numbers in family.computed.items()
        if name in tensors and not _is_computed(tensors[name], numbers)
    ]


def _is_computed(tensor: StoredTensor, numbers: Callable[[tuple[int, ...]], np.ndarray]) -> bool:
    """Return True if a tensor has these numbers, in any precision, or only zeros: then its numbers
    are unknown, see `HeaderOnly`."""
    values = tensor.read().astype("float32")
    expected = numbers(tensor.shape)
    return not values.any() or np.allclose(values, expected, rtol=0, atol=1e-2)


def _misfit(checkpoint: Checkpoint, problems: Sequence[str]) -> InputError:
    more = [f"and {len(problems) - 20} more"] if len(problems) > 20 else []
    return InputError(
        f"{checkpoint.folder}: the weights do not fit config.json:\n  "
        + "\n  ".join([*problems[:20], *more])
    )
