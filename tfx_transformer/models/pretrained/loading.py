"""The weights of a checkpoint into a model, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.checkpoint import Checkpoint, StoredTensor
from tfx_transformer.models.pretrained.family import Family, Group, Tensor
from tfx_transformer.models.saving import check_size, parameters

# What older versions of transformers stored beside the weights, computed or tied.
_COMPUTED = (
    ".attn.bias",
    ".attn.masked_bias",
    ".rotary_emb.inv_freq",
    "embeddings.position_ids",
    "embed_positions.weight",
    ".embed_tokens.weight",
)


def new_model(cls, config, dtype: str, family: Family, checkpoint: Checkpoint) -> keras.Model:
    """A model with the weights of a checkpoint.

    They are what its variables begin with: no memory is taken and no random number drawn for
    values that would be replaced, and no second copy of the weights exists.

    A text model may have fewer learned positions than the checkpoint: it gets the first ones.

    Args:
        cls: of the model.
        config: made from the fields of `family`.
        dtype: policy of the model.

    Raises:
        InputError: a tensor is missing, of another shape, or has no place in the model; all of them
            are named.
    """
    check_size(
        config, cls.task, sum(t.size for t in checkpoint.tensors.values()), checkpoint.folder
    )
    # Keras initializes what was made in such a scope when it ends.
    with keras.StatelessScope():
        model = cls(config, dtype=dtype)
        _set_initializers(model, family, checkpoint)
    return model


def _set_initializers(model: keras.Model, family: Family, checkpoint: Checkpoint) -> None:
    variables = parameters(model)
    places = family.places(checkpoint.config, model.task, variables)
    # A model without a head is stored without its family's prefix: so both look alike.
    tensors = {_bare(name, family): tensor for name, tensor in checkpoint.tensors.items()}
    missing = [n for n in _names(places) if _bare(n, family) not in tensors]
    if problems := [f"{name} is missing" for name in missing] + list(
        _left_over(model, family, places, tensors)
    ):
        raise _misfit(checkpoint, problems)
    for place in places:
        theirs = (place.theirs,) if isinstance(place, Tensor) else place.theirs
        stored = [tensors[_bare(name, family)] for name in theirs]
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
    """Whether fewer learned positions are a shorter context; an image is always read whole."""
    return config.position == "learned" and not config.image_size


class _Value:
    """What a variable begins with, read when it is asked for.

    Args:
        place: of the variable.
        stored: the tensors of the place.
        index: of the variable among those of a `Group`.
        most: keep so many rows, the first ones; None: all.
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
        """How its shape differs from the expected one, as the checkpoint has it."""
        shape = self.shape
        if isinstance(self.place, Tensor) and self.place.change == "transposed":
            shape, expected = shape[::-1], expected[::-1]
        return f"has shape {shape}, expected {expected}"


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


def _misfit(checkpoint: Checkpoint, problems: Sequence[str]) -> InputError:
    more = [f"and {len(problems) - 20} more"] if len(problems) > 20 else []
    return InputError(
        f"{checkpoint.folder}: the weights do not fit config.json:\n  "
        + "\n  ".join([*problems[:20], *more])
    )
