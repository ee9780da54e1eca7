"""The choice of examples held out for validation, and the record of it in a bundle."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import os
import unicodedata
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import json_files
from tfx_transformer.data.file_rows import Rows, hashes
from tfx_transformer.errors import InputError

# The file of a bundle that holds its `Split`.
SPLIT = "split.json"
# Characters that Excel's Shift-JIS has in another form: a table saved in it has the same rows.
_SHIFT_JIS = str.maketrans("〜−‖—", "~-∥―")


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows that a model was trained on and those held out, by `row_sum`. No text can be read
    from it, but who has a text can see that it was probably among them.

    Attributes:
        training: sums of the training rows, 32 bits each.
        held_out: sums of the held-out rows.
    """

    training: frozenset[int] = frozenset()
    held_out: frozenset[int] = frozenset()

    @classmethod
    def of(cls, training: Iterable[Hashable], held_out: Iterable[Hashable]) -> Split:
        """Return the split of rows by their keys; see `Examples.keys`."""
        return cls(frozenset(map(row_sum, training)), frozenset(map(row_sum, held_out)))

    def __or__(self, other: Split) -> Split:
        """Return the split of the rows of both; a row that either was trained on is not held
        out."""
        training = self.training | other.training
        return Split(training, (self.held_out | other.held_out) - training)

    def to_json(self) -> str:
        """Return it as the text of `split.json`: uint32, little-endian, ascending, in base64."""
        parts = {"training": self.training, "held_out": self.held_out}
        texts = {
            name: base64.b64encode(np.array(sorted(sums), "<u4").tobytes()).decode()
            for name, sums in parts.items()
        }
        return json.dumps({"sums": "blake2b-32", **texts}) + "\n"

    @classmethod
    def read(cls, bundle: str | os.PathLike[str]) -> Split | None:
        """Return the split of a bundle; None if it has none.

        Raises:
            InputError: the file is not the record of a split.
        """
        file = Path(bundle, SPLIT)
        if not file.is_file():
            return None
        values = json_files.read_object(file)
        try:
            if values.get("sums") != "blake2b-32":
                raise ValueError
            return cls(*(_sums(values[name]) for name in ("training", "held_out")))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{file} is not a record of rows.\n  Copy the bundle again."
            ) from error


def _sums(text: Any) -> frozenset[int]:
    try:
        return frozenset(np.frombuffer(base64.b64decode(text, validate=True), "<u4").tolist())
    except binascii.Error as error:
        raise ValueError from error


def row_key(key: Hashable) -> int:
    """Return 64 bits of a key, equal for texts that differ only in blanks, width or the form of
    characters, which a spreadsheet may change.

    Args:
        key: a text, the texts of a row, or a digest.
    """
    texts = map(str, key) if isinstance(key, tuple) else [str(key)]
    plain = (unicodedata.normalize("NFKC", t.translate(_SHIFT_JIS)).split() for t in texts)
    joined = "\x1f".join(map(" ".join, plain))
    return int.from_bytes(hashlib.blake2b(joined.encode(), digest_size=8).digest(), "little")


def row_sum(key: Hashable) -> int:
    """Return the low 32 bits of `row_key`, which a `Split` keeps."""
    return row_key(key) & 0xFFFFFFFF


def check_share(share: float) -> None:
    """Raise if a share of the examples to hold out is out of range.

    Raises:
        InputError: the share is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share to hold out is {share}.\n  Expected from 0 to 1.")


def split_by_key(
    keys: Rows[str], share: float, seed: int, *, path: str, noun: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the examples to train on and of those held out, both int, ascending.

    All examples with the same key go to the same side. The split is the same for the same keys,
    share and seed.

    Args:
        keys: one per example, such as the source text, which must not be on both sides.
        share: share of the distinct keys to hold out; at least one is, and one is not.
        path, noun: path of the examples and name of a key, for the message.

    Raises:
        InputError: there are fewer than two distinct keys, or the share is not from 0 to 1.
    """
    check_share(share)
    numbers = _number_keys(keys)
    distinct = int(numbers.max(initial=-1)) + 1
    if distinct < 2:
        raise InputError(
            f"{path}: cannot be split into training and validation, "
            f"it has {distinct} distinct {noun}.\n"
            "  Add rows, or give a validation file."
        )
    count = min(max(round(distinct * share), 1), distinct - 1)
    held_out = np.zeros(distinct, bool)
    held_out[np.random.default_rng(seed).permutation(distinct)[:count]] = True
    outside = held_out[numbers]
    return np.flatnonzero(~outside), np.flatnonzero(outside)


def _number_keys(keys: Rows[str]) -> np.ndarray:
    """Return int (examples,): the number of each key, from 0 in the order of first appearance."""
    _, first, place = np.unique(hashes(keys), return_index=True, return_inverse=True)
    numbers = np.empty(len(first), int)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[place]
