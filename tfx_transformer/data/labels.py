"""Labels of examples of any kind: names, numbers, weights and a stratified split.

The labels of an example are a tuple of texts: one; or any number, none included, where several
labels may hold at once.
"""

from __future__ import annotations

import collections
import difflib
import itertools
import math
import unicodedata
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from tfx_transformer.arguments import naming
from tfx_transformer.data.splits import check_share
from tfx_transformer.errors import InputError

Labels = Sequence[tuple[str, ...]]

# More names hide what a message says; a longer label is probably a text in the wrong column.
_NAMES_SHOWN = 10
_LONGEST_SHOWN = 60


def label_names(labels: Labels, path: str, known: Sequence[str] = ()) -> list[str]:
    """Return the distinct labels, sorted by their characters; the index of a name is its number.

    Args:
        labels: of every training example.
        path: of the examples, for the message.
        known: other labels, such as those of a model that is trained further.

    Raises:
        InputError: there are fewer than two labels.
    """
    names = sorted({label for several in labels for label in several} | set(known))
    if len(names) < 2:
        what = f"{_quote(names[0])} is the only label" if names else "there is no label"
        raise InputError(
            f"{path}: {what}.\n"
            "  A classifier needs at least two labels. Add examples of another label, or name the\n"
            f"  column that holds the labels: {naming('label')}."
        )
    return names


def alike_labels(names: Sequence[str]) -> list[list[str]]:
    """Return groups of labels that may be one label written in several ways, such as `1` and `1.0`,
    `A` and `a`: equal as numbers, or except for case, width and blanks."""
    groups: dict[Hashable, list[str]] = collections.defaultdict(list)
    for name in names:
        groups[_fold_name(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def alike_warning(names: Sequence[str]) -> str | None:
    """Return a summary's warning about `alike_labels`; None without such labels."""
    groups = [" and ".join(map(_quote, group)) for group in alike_labels(names)]
    if not groups:
        return None
    more = f"; {len(groups) - _NAMES_SHOWN} more" if len(groups) > _NAMES_SHOWN else ""
    shown = "; ".join(groups[:_NAMES_SHOWN])
    return f"labels that may be the same: {shown}{more}"


def _fold_name(name: str) -> Hashable:
    text = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def label_ids(
    labels: Labels, names: Sequence[str], *, path: str, rows: Sequence[int]
) -> np.ndarray:
    """Return int32 (examples,): the number of each example's one label.

    Args:
        names: known labels, as `label_names` returns them.
        path, rows: file and row of each example, for the message.

    Raises:
        InputError: a label is unknown (the message names the nearest known one), or an example
            does not have exactly one label.
    """
    ids = []
    for row, numbers in zip(rows, _numbers(labels, names, path, rows), strict=True):
        if len(numbers) != 1:
            raise InputError(
                f"{path}, row {row}: there are {len(numbers)} labels.\n"
                "  One label a row is expected. Keep one, or train a model of several labels a\n"
                "  row (multi_label=True)."
            )
        ids += numbers
    return np.array(ids, "int32")


def label_matrix(
    labels: Labels, names: Sequence[str], *, path: str, rows: Sequence[int]
) -> np.ndarray:
    """Return float32 (examples, names): 1 where the example has the label, else 0.

    Arguments and errors as for `label_ids`, but an example may have any number of labels.
    """
    matrix = np.zeros((len(labels), len(names)), "float32")
    for row, numbers in zip(matrix, _numbers(labels, names, path, rows), strict=True):
        row[numbers] = 1
    return matrix


def class_weights(ids: np.ndarray, count: int) -> np.ndarray:
    """Return float32 (count,): weights with which all classes have the same total weight.

    examples / (classes * examples of the class), over the classes that have examples; 1 for a class
    without any. scikit-learn calls this "balanced".

    Args:
        ids: int (examples,), the class of each.
        count: number of classes.
    """
    examples = np.bincount(ids, minlength=count)
    balanced = len(ids) / (np.count_nonzero(examples) * np.maximum(examples, 1))
    return np.where(examples > 0, balanced, 1).astype("float32")


def example_weights(weights: np.ndarray | str | None, ids: np.ndarray, count: int) -> np.ndarray:
    """Return float32 (examples,): the weight of each example in the loss.

    Args:
        weights: float (count,), of an example of each class; "balanced": `class_weights`; None or
            "": 1.
        ids: int (examples,), the class of each; only their number counts without weights.
        count: number of classes.

    Raises:
        InputError: another word than "balanced".
    """
    if weights is None or len(weights) == 0:
        return np.ones(len(ids), "float32")
    if isinstance(weights, str):
        if weights != "balanced":
            raise InputError(f"class weights are {weights!r}.\n  Expected 'balanced', or none.")
        weights = class_weights(ids, count)
    return np.asarray(weights, "float32")[ids]


def split_stratified(
    labels: Labels, keys: Sequence[Hashable], share: float, seed: int, *, path: str
) -> tuple[list[int], list[int]]:
    """Return the indices of the examples to train on and of those held out, both ascending.

    About the same share of every class is held out, and examples with equal keys go to the same
    side. If several labels may hold at once, each combination of them is a class. The split is the
    same for the same labels, keys, share and seed.

    Args:
        labels: of each example.
        keys: one per example, such as its text, which must not be on both sides.
        share: share of the distinct keys of a class to hold out, rounded; at least one if it has
            two. Every class keeps a training example, so a class with a single example or a single
            key stays in training.
        path: of the examples, for the message.

    Raises:
        InputError: nothing can be held out, or the share is not from 0 to 1.
    """
    check_share(share)
    classes = [tuple(sorted(several)) for several in labels]
    held_out = _held_out_keys(classes, keys, share, seed)
    if not held_out:
        raise InputError(
            f"{path}: cannot be split into training and validation, no label has two different "
            "examples.\n  Add rows, or give a validation file."
        )
    return (
        [i for i, key in enumerate(keys) if key not in held_out],
        [i for i, key in enumerate(keys) if key in held_out],
    )


def _held_out_keys(
    classes: Labels, keys: Sequence[Hashable], share: float, seed: int
) -> set[Hashable]:
    """Return the keys to hold out, drawn class by class; arguments as for `split_stratified`."""
    in_training = collections.Counter(classes)
    of_key: dict[Hashable, collections.Counter] = collections.defaultdict(collections.Counter)
    keys_of: dict[tuple[str, ...], dict[Hashable, None]] = collections.defaultdict(dict)
    for name, key in zip(classes, keys, strict=True):
        of_key[key][name] += 1
        keys_of[name][key] = None
    random = np.random.default_rng(seed)
    held_out: set[Hashable] = set()
    for name in sorted(keys_of):
        candidates = list(keys_of[name])
        wanted = max(round(share * len(candidates)), 1) - len(held_out.intersection(candidates))
        shuffled = [candidates[number] for number in random.permutation(len(candidates))]
        # A key may be in several classes: each of them must keep an example.
        free = (
            key
            for key in shuffled
            if key not in held_out and all(in_training[c] > n for c, n in of_key[key].items())
        )
        for key in itertools.islice(free, max(wanted, 0)):
            held_out.add(key)
            in_training.subtract(of_key[key])
    return held_out


def _numbers(
    labels: Labels, names: Sequence[str], path: str, rows: Sequence[int]
) -> Iterator[list[int]]:
    """Yield the numbers of each example's labels; raise InputError at the first unknown one."""
    number = {name: index for index, name in enumerate(names)}
    for row, several in zip(rows, labels, strict=True):
        for label in several:
            if label not in number:
                raise _unknown_label(label, names, path, row)
        yield [number[label] for label in several]


def _unknown_label(label: str, names: Sequence[str], path: str, row: int) -> InputError:
    shown = ", ".join(map(_quote, names[:_NAMES_SHOWN]))
    if len(names) > _NAMES_SHOWN:
        shown += f" and {len(names) - _NAMES_SHOWN} more"
    short = {name[:_LONGEST_SHOWN]: name for name in names}
    (nearest,) = difflib.get_close_matches(label[:_LONGEST_SHOWN], short, n=1, cutoff=0)
    return InputError(
        f"{path}, row {row}: the label {_quote(label)} is unknown.\n"
        f"  The model knows {shown}; the nearest is {_quote(nearest)}.\n"
        "  Fix the row or leave it out, or train with examples of that label."
    )


def _quote(label: str) -> str:
    short = label if len(label) <= _LONGEST_SHOWN else f"{label[: _LONGEST_SHOWN - 1]}…"
    return repr(short)
