"""The comparison of two models on the same held-out examples, such as before and after training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tfx_transformer import wording
from tfx_transformer.evaluation.intervals import (
    Interval,
    bleu_samples,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    percentile_interval,
    proportion_interval,
)
from tfx_transformer.evaluation.labels import labelled_right
from tfx_transformer.evaluation.score_text import (
    ERRORS,
    LOSSES,
    distance_text,
    number_text,
    value_text,
)
from tfx_transformer.evaluation.texts import score_texts

Verdict = Literal["better", "no different", "worse"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A new model against an old one, on the same examples.

    Attributes:
        measure: name of the score, as in `wording.TEXTS`.
        old, new: the scores.
        old_interval, new_interval: their 95 % intervals; None: no interval.
        difference: 95 % interval of the new score minus the old one, paired by example; None: too
            few examples for an interval.
        count: number of examples.
        unit: name of an example: "row", "image" or "pair".
        old_name, new_name: names of the models.
        kept: "new" or "old"; "replaced" if the new model has replaced the old one; "": not decided.
    """

    measure: str
    old: float
    new: float
    old_interval: Interval | None
    new_interval: Interval | None
    difference: Interval | None
    count: int
    unit: str
    old_name: str = ""
    new_name: str = ""
    kept: str = ""

    @property
    def verdict(self) -> Verdict:
        """The new model against the old one: better or worse if the interval excludes zero."""
        low, high = self.difference or (-np.inf, np.inf)
        if self._is_error:
            low, high = -high, -low
        if low > 0:
            return "better"
        return "worse" if high < 0 else "no different"

    @property
    def better(self) -> Literal["old", "new"]:
        """The model with the better score; if equal, the new one, which saw more examples."""
        if self.new == self.old:
            return "new"
        return "new" if (self.new < self.old) == self._is_error else "old"

    @property
    def _is_error(self) -> bool:
        """True for a score to minimise."""
        return self.measure in (*ERRORS, *LOSSES)

    def sentences(self, language: str | None = None) -> list[str]:
        """Return the two scores, their difference, and which model is kept.

        Args:
            language: "en" or "ja"; None: see `wording`.
        """
        difference = distance_text(self.measure, self.new - self.old, language, signed=True)
        old_name, new_name = self.old_name, self.new_name
        if old_name == new_name:
            old_name = wording.say("the old", language, model=old_name)
            new_name = wording.say("the new", language, model=new_name)
        text = wording.say(
            "compared",
            language,
            old_name=old_name,
            new_name=new_name,
            measure=wording.say(self.measure, language),
            old=self._score(value_text(self.measure, self.old), self.old_interval, language),
            new=self._score(value_text(self.measure, self.new), self.new_interval, language),
            difference=self._score(difference, self.difference, language, "+"),
            held_out=wording.examples(self.count, self.unit, language),
        )
        judged = wording.say(f"compared {self.verdict}", language)
        if self.kept:
            names = {"old_name": self.old_name, "new_name": self.new_name}
            is_plain = self.kept == "new" and self.verdict == "better"
            text_name = "kept" if is_plain else f"kept {self.kept}"
            judged += wording.say(text_name, language, **names)
        return [text, judged]

    def change(self, language: str | None = None) -> str:
        """Return the difference with its interval and the name of the score, such as "accuracy
        -0.5 points (95 %: -1.9 to +0.9)".

        Args:
            language: as for `sentences`.
        """
        difference = distance_text(self.measure, self.new - self.old, language, signed=True)
        shown = self._score(difference, self.difference, language, "+")
        return f"{wording.say(self.measure, language)} {shown}"

    def _score(
        self, shown: str, interval: Interval | None, language: str | None, sign: str = ""
    ) -> str:
        """Return a score with its interval, if it has one."""
        if interval is None:
            return shown
        low, high = (number_text(self.measure, end, sign) for end in interval)
        return wording.say("with interval", language, score=shown, low=low, high=high)

    def to_dict(self) -> dict[str, Any]:
        """The figures and the verdict, as JSON values."""
        figures = dataclasses.asdict(self) | {"verdict": self.verdict}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in figures.items()}

    @classmethod
    def from_dict(cls, figures: Mapping[str, Any]) -> Comparison:
        """Return the comparison of figures from `to_dict`."""
        names = [field.name for field in dataclasses.fields(cls)]
        known = {name: figures[name] for name in names if name in figures}
        return cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in known.items()})


def compare_shares(
    measure: str, old: np.ndarray, new: np.ndarray, unit: str = "row", **names: str
) -> Comparison:
    """Return the comparison of two models by the share of examples that are right.

    Args:
        measure: as in `Comparison`.
        old, new: bool (n,), True for each example that the model has right.
        unit, names: as in `Comparison`.
    """
    old, new = np.asarray(old, bool), np.asarray(new, bool)
    count = len(old)
    return Comparison(
        measure,
        float(old.mean()),
        float(new.mean()),
        proportion_interval(int(old.sum()), count),
        proportion_interval(int(new.sum()), count),
        paired_difference(new, old),
        count,
        unit,
        **names,
    )


def compare_labels(
    old: np.ndarray, new: np.ndarray, truth: np.ndarray, multi_label: bool = False, **options: str
) -> Comparison:
    """Return the comparison of two classifiers.

    Args:
        old, new: float (n, C), probabilities of the same labels.
        truth, multi_label: as for `labels.labelled_right`.
        options: as for `compare_shares`.
    """
    right = (labelled_right(found, truth, multi_label) for found in (old, new))
    return compare_shares("exact_match" if multi_label else "accuracy", *right, **options)


def compare_means(
    measure: str, old: Sequence[float], new: Sequence[float], unit: str = "row", **names: str
) -> Comparison:
    """Return the comparison of two models by the mean of a score of each example, by bootstrap.

    Args:
        measure: as in `Comparison`.
        old, new: the score of each example.
        unit, names: as in `Comparison`.
    """
    first, second = np.asarray(old, np.float64), np.asarray(new, np.float64)
    return Comparison(
        measure,
        float(first.mean()),
        float(second.mean()),
        mean_interval(first),
        mean_interval(second),
        mean_interval(second - first),
        len(first),
        unit,
        **names,
    )


def compare_scores(
    measure: str,
    old: Any,
    new: Any,
    score: Any,
    count: int,
    unit: str = "row",
    **names: str,
) -> Comparison:
    """Return the comparison of two models by a score of all examples together, by bootstrap over
    examples (Koehn 2004).

    Args:
        measure: as in `Comparison`.
        old, new: first argument of `score`, for each model.
        score: (old or new, int (n,) indices of examples) -> their score.
        count: number of examples.
        unit, names: as in `Comparison`.
    """
    every = np.arange(count)
    difference = bootstrap_interval(lambda rows: score(new, rows) - score(old, rows), count)
    return Comparison(
        measure,
        float(score(old, every)),
        float(score(new, every)),
        bootstrap_interval(lambda rows: score(old, rows), count),
        bootstrap_interval(lambda rows: score(new, rows), count),
        difference,
        count,
        unit,
        **names,
    )


def compare_texts(
    old: Sequence[str],
    new: Sequence[str],
    references: Sequence[str],
    tokenize: str | None = None,
    **options: str,
) -> Comparison:
    """Return the comparison of two models by BLEU, on the same resamples (Koehn 2004).

    Args:
        old, new: n texts that each model wrote.
        references: the n expected texts.
        tokenize: as for `texts.score_texts`.
        options: as in `Comparison`.
    """
    known = [score_texts(written, references, tokenize) for written in (old, new)]
    first, second = (
        bleu_samples(written, references, scores["bleu_tokenize"])
        for written, scores in zip((old, new), known, strict=True)
    )
    has_both = first is not None and second is not None
    return Comparison(
        "bleu",
        known[0]["bleu"],
        known[1]["bleu"],
        None if first is None else percentile_interval(first),
        None if second is None else percentile_interval(second),
        percentile_interval(second - first) if has_both else None,
        len(references),
        **{"unit": "row", **options},
    )
