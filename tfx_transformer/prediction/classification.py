"""From logits to labels: the answer of a classifier, and the names of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity, short_list

# Most labels that a repr shows.
_SHOWN = 5


class Classification(NamedTuple):
    """The answer of a classifier to one text or image.

    label: the most probable label; probability: of that label; labels: all with a probability above
    0.5 if several may be right at once, else the most probable one; probabilities: of every label.
    """

    label: str
    probability: float
    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def __repr__(self) -> str:
        ordered = sorted(self.probabilities.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name!r} {100 * value:.1f} %" for name, value in ordered[:_SHOWN])
        more = f" and {len(ordered) - _SHOWN:,} more" if len(ordered) > _SHOWN else ""
        return f"Classification: {shown}{more}"


class Labels:
    """The names of a classifier's classes, and their probabilities from its logits.

    Args:
        names: one per class.
        multi_label: True if any number of labels may be right at once; each has a probability of
            its own, instead of all summing to 1.
        thresholds: name -> the probability from which on a label is reliable; None: not known.
    """

    def __init__(
        self,
        names: Sequence[str],
        multi_label: bool = False,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.names = list(names)
        self.multi_label = multi_label
        self.thresholds = thresholds

    def __repr__(self) -> str:
        several = ", any number may be right" if self.multi_label else ""
        return f"{quantity(len(self.names), 'label')}: {short_list(self.names)}{several}"

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return float32 (n, classes): sigmoid of the logits if `multi_label`, else softmax."""
        logits = logits.astype("float32")
        if self.multi_label:
            return 0.5 * (1 + np.tanh(0.5 * logits))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def sure(self, found: Classification, unsure: float | str = 0.0) -> tuple[str, ...]:
        """Return the labels of an answer that are sure enough; () if it is left open.

        Args:
            found: the answer.
            unsure: the probability below which an answer is left open; "auto": the threshold of
                each label.

        Raises:
            InputError: `unsure` is "auto", and the thresholds are not known.
        """
        if unsure != "auto":
            return found.labels if found.probability >= float(unsure) else ()
        if self.thresholds is None:
            raise InputError(
                "the bundle has no thresholds of its labels, which unsure='auto' needs.\n"
                "  Training fits them on 30 or more held-out rows. Give a probability, such as 0.7."
            )
        names = self.names if self.multi_label else found.labels
        return tuple(n for n in names if found.probabilities[n] >= self.thresholds[n])

    def classifications(self, probabilities: np.ndarray) -> list[Classification]:
        """Return the answer for each row of probabilities, (n, classes)."""
        return [self._classification(row) for row in probabilities.tolist()]

    def _classification(self, row: list[float]) -> Classification:
        best = max(range(len(row)), key=row.__getitem__)
        chosen = [self.names[best]]
        if self.multi_label:
            chosen = [name for name, value in zip(self.names, row, strict=True) if value > 0.5]
        table = dict(zip(self.names, row, strict=True))
        return Classification(self.names[best], row[best], tuple(chosen), table)


def read_thresholds(config: dict[str, Any], names: Sequence[str]) -> dict[str, float] | None:
    """Return the thresholds of a bundle's classes; None if it does not have one for each.

    Args:
        config: from `bundle.read_config`.
        names: of the classes.
    """
    found = config.get("thresholds")
    table = found.get("labels") if isinstance(found, dict) else None
    if not names or not isinstance(table, dict) or not set(names) <= table.keys():
        return None
    values = {name: table[name] for name in names}
    good = all(type(v) in (int, float) and 0 <= v <= 1 for v in values.values())
    return values if good else None


def read_labels(config: dict[str, Any], count: int, path: Any) -> list[str]:
    """Return the names of a bundle's classes.

    Args:
        config: from `bundle.read_config`.
        count: number of the model's classes.
        path: of the bundle, for the message.

    Raises:
        InputError: the configuration does not have one distinct name for each class.
    """
    names = config.get("labels")
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or len(names) != count or len(set(names)) != count:
        raise InputError(
            f"{path}: 'labels' in its configuration are not the names of {count} classes."
        )
    return names
