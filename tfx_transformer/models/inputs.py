"""The inputs of a model by name, from anything that Keras takes as inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.errors import InputError


def by_name(given: Any, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Any:
    """Return a dictionary of the inputs: the given one, or one made from an array for each name.

    Args:
        given: a dictionary; an array, a tensor or rows of numbers if one input is required, else a
            tuple or list of as many as are required.
        required: names of the inputs, in the order of such a tuple.
        optional: names of others that a dictionary may hold.

    Raises:
        InputError: a name is missing or unknown, or an input does not have the rank of a batch; the
            message lists the names.
    """
    if not isinstance(given, Mapping):
        given = _by_position(given, required, optional)
    missing = [name for name in required if name not in given]
    unknown = [str(name) for name in given if name not in (*required, *optional)]
    if missing or unknown:
        problems = [f"{', '.join(missing)} missing"] if missing else []
        problems += [f"{', '.join(unknown)} not known"] if unknown else []
        raise InputError(
            f"the inputs are {', '.join(map(str, given)) or 'empty'}: {'; '.join(problems)}.\n"
            f"  Expected a dictionary with {_list_names(required, optional)}."
        )
    return {name: _check(name, value) for name, value in given.items()}


def rows(values: Any) -> Any:
    """Return rows of numbers in lists as an array; anything else as it is.

    Raises:
        InputError: the rows are of unequal length.
    """
    if not isinstance(values, list | tuple) or not _is_numbers(values):
        return values
    try:
        return np.asarray(values)
    except ValueError as error:
        lengths = sorted({len(row) for row in values if hasattr(row, "__len__")})
        raise InputError(
            f"rows of {', '.join(map(str, lengths))} numbers cannot be one batch.\n"
            "  Fill up the shorter ones with the padding_id of the configuration, such as by "
            'keras.utils.pad_sequences(rows, padding="post", value=padding_id).'
        ) from error


def _by_position(given, required, optional):
    parts = given if isinstance(given, list | tuple) else ()
    if len(required) == 1:
        if len(parts) == 1 and _rank(parts[0]) == _expected_rank(required[0]):
            given = parts[0]  # a list of inputs, of which there is one
        return {required[0]: given}
    ranks = [_rank(part) for part in parts]
    if ranks == [_expected_rank(name) for name in required]:
        return dict(zip(required, parts, strict=True))
    raise InputError(
        f"the model reads {len(required)} inputs, and was given one.\n"
        f"  Expected ({', '.join(required)}), a tuple of arrays, or a dictionary with "
        f"{_list_names(required, optional)}; in a data set ((…, …), labels)."
    )


def _check(name, value):
    value = rows(value)
    rank, expected = _rank(value), _expected_rank(name)
    if rank not in (None, expected):
        raise InputError(
            f"{name} has shape {tuple(getattr(value, 'shape', ()))}.\n"
            f"  Expected {expected} axes, the first for the examples of a batch"
            + ("; one text x is x[None]." if (rank, expected) == (1, 2) else ".")
        )
    if name == "images" or not hasattr(value, "dtype"):
        return value
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype)):
        return value
    # Keras casts floats to the compute dtype; in half precision, large ids would coincide.
    if isinstance(value, np.ndarray):
        return value.astype("int32")
    is_tensor = ops.is_tensor(value) or isinstance(value, keras.KerasTensor)
    return ops.cast(value, "int32") if is_tensor else value  # else it only describes one


def _expected_rank(name: str) -> int:
    return 4 if name == "images" else 2


def _rank(value) -> int | None:
    """Return how many axes an array, a tensor or nested lists have; None: not known."""
    if isinstance(value, list | tuple):
        inner = _rank(value[0]) if len(value) else 0
        return None if inner is None else 1 + inner
    shape = getattr(value, "shape", ())
    rank = getattr(shape, "rank", -1)  # of TensorFlow, None where it is not known
    return len(shape) if rank == -1 else rank


def _is_numbers(values) -> bool:
    """Return True for lists of numbers or of rows of numbers; False for a list of inputs."""
    while isinstance(values, list | tuple) and len(values):
        values = values[0]
    return isinstance(values, int | float | np.number) or getattr(values, "ndim", None) == 1


def _list_names(required, optional) -> str:
    text = " and ".join(map(repr, required))
    return text + (f" (optional: {', '.join(map(repr, optional))})" if optional else "")
