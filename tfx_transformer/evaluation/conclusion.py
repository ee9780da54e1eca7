"""The conclusion on a trained model: its held-out score with an interval, next to a baseline's.

Both are scored on the same held-out rows. A model is better, or worse, if the 95 % interval of the
difference excludes zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tfx_transformer import wording
from tfx_transformer.evaluation.comparison import Comparison
from tfx_transformer.evaluation.intervals import (
    Interval,
    bleu_interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from tfx_transformer.evaluation.numbers import score_numbers
from tfx_transformer.evaluation.score_text import (
    ERRORS,
    distance_text,
    number_text,
    value_text,
)
from tfx_transformer.evaluation.spans import Counts, f1_difference, f1_interval
from tfx_transformer.evaluation.texts import answer_f1s, unspaced_share
from tfx_transformer.text.scripts import KANA

Verdict = Literal["better", "no better", "worse", "no baseline"]
# The linear classifier inside a model: none, one that answers with the Transformer, or alone.
Linear = Literal["", "together", "alone"]

# An interval wider than this share of the scale means that too few rows are held out.
_WIDE = 0.2
# The same for an error, as a share of the error.
_WIDE_ERROR = 0.4


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """The conclusion on a model from held-out examples.

    Attributes:
        measure: name of the score, such as "accuracy"; to maximise, except an error.
        score: its value.
        count: number of held-out examples.
        unit: name of an example: "row", "image", "pair" or "text".
        interval: 95 % interval of the score; None: no interval.
        baseline: name of the best simpler method, as in `wording.TEXTS`; None: none was measured.
        baseline_score: its score on the same examples.
        difference: 95 % interval of the score minus the baseline's.
        base: a checkpoint to begin with instead; "": the model began with a checkpoint.
        silence: the reason why there is no baseline, a name in `wording.TEXTS`.
        comparison: with the model that the training began with; None: not compared.
        linear: the linear classifier inside the model, see `Linear`.
    """

    measure: str
    score: float
    count: int
    unit: str
    interval: Interval | None = None
    baseline: str | None = None
    baseline_score: float | None = None
    difference: Interval | None = None
    base: str = ""
    silence: str = "no baseline"
    comparison: Comparison | None = None
    linear: Linear = ""

    @property
    def verdict(self) -> Verdict:
        """The model against the baseline."""
        if self.difference is None:
            return "no baseline"
        low, high = self.difference
        if self.measure in ERRORS:
            low, high = -high, -low
        if low > 0:
            return "better"
        return "worse" if high < 0 else "no better"

    def sentences(self, language: str | None = None) -> list[str]:
        """Return the conclusion as sentences: the score, its comparisons, advice and doubts.

        Args:
            language: "en" or "ja"; None: see `wording`.
        """
        found = [] if self.comparison is None else self.comparison.sentences(language)
        found += [self._comparison(language)] if self.baseline else self._alone(language)
        if self.verdict in ("no better", "worse"):
            if self.linear:
                found.append(wording.say(f"linear {self.linear}", language))
            found.append(self._remedy(language))
        if self._is_uncertain():
            found.append(wording.say("hold out more", language))
        return found

    def to_dict(self) -> dict[str, Any]:
        """The figures, the verdict, and the sentences by language, as JSON values."""
        figures = dataclasses.asdict(self) | {"verdict": self.verdict}
        if self.comparison is not None:
            figures["comparison"] = self.comparison.to_dict()
        figures |= {"sentences": {code: self.sentences(code) for code in wording.LANGUAGES}}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in figures.items()}

    @classmethod
    def from_dict(cls, figures: Mapping[str, Any]) -> Conclusion:
        """Return the conclusion of figures from `to_dict`."""
        names = [field.name for field in dataclasses.fields(cls)]
        known = {name: figures[name] for name in names if name in figures}
        if known.get("comparison") is not None:
            known["comparison"] = Comparison.from_dict(known["comparison"])
        pairs = {n: tuple(v) if isinstance(v, list) else v for n, v in known.items()}
        return cls(**pairs)

    def _comparison(self, language: str | None) -> str:
        assert self.difference is not None and self.baseline_score is not None
        low, high = self.difference
        difference = self.score - self.baseline_score
        is_signed = self.verdict == "no better"
        if difference < 0 and not is_signed:
            low, high, difference = -high, -low, -difference
        is_error = self.measure in ERRORS and not is_signed
        return wording.say(
            f"{self.verdict}, of an error" if is_error else self.verdict,
            language,
            baseline=wording.say(self.baseline, language),
            measure=wording.say(self.measure, language),
            difference=distance_text(self.measure, difference, language, is_signed),
            low=number_text(self.measure, low),
            high=number_text(self.measure, high),
            score=value_text(self.measure, self.score),
            other=value_text(self.measure, self.baseline_score),
            held_out=wording.examples(self.count, self.unit, language),
        )

    def _alone(self, language: str | None) -> list[str]:
        """Return the sentences about a score without a baseline."""
        measure = wording.say(self.measure, language)
        fields = {
            "measure": measure[0].upper() + measure[1:],
            "score": value_text(self.measure, self.score),
        }
        fields["held_out"] = wording.examples(self.count, self.unit, language)
        if self.interval is None:
            score = wording.say("score without interval", language, **fields)
        else:
            low, high = (number_text(self.measure, end) for end in self.interval)
            score = wording.say("score", language, **fields, low=low, high=high)
        return [score, wording.say(self.silence, language)]

    def _remedy(self, language: str | None) -> str:
        """Return the sentence about what to do if a simpler method is as good."""
        parts = []
        has_one = self.linear and self.verdict == "no better"
        if self.baseline not in ("majority", "mean", "frequent") and not has_one:
            baseline = wording.say(f"{self.baseline}, short", language)
            parts.append(wording.say("take the simple", language, baseline=baseline))
        parts.append(wording.say("more rows", language))
        if self.base:
            parts.append(wording.say("other base", language, base=self.base))
        else:
            parts.append(wording.say("other settings", language))
        return wording.alternatives(parts, language)

    def _is_uncertain(self) -> bool:
        if self.interval is None:
            return False
        scale = {"bleu": 100, "perplexity": self.score}.get(self.measure, 1)
        if self.measure in ERRORS:  # in the unit of the data
            scale = _WIDE_ERROR / _WIDE * self.score
        return self.interval[1] - self.interval[0] > _WIDE * scale


def conclude_labels(
    right: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    unit: str = "row",
    base: str = "",
    several: bool = False,
    linear: Linear = "",
) -> Conclusion:
    """Return the conclusion on a classifier.

    Args:
        right: bool (n,), True for each held-out row that it labels right.
        baselines: name of a simpler method in `wording.TEXTS` -> the same for that method.
        unit: "row" or "image".
        base: as in `Conclusion`.
        several: True if a row may have several labels, which must all be right.
        linear: as in `Conclusion`.
    """
    measure = "exact_match" if several else "accuracy"
    silence = "no baseline of labels" if several else "no baseline"
    found = _conclude_shares(measure, right, baselines, unit, base, silence)
    return dataclasses.replace(found, linear=linear)


def conclude_calls(right: np.ndarray, baselines: Mapping[str, np.ndarray]) -> Conclusion:
    """Return the conclusion on a model that calls tools.

    Args:
        right: bool (n,), True for each held-out request that it answers with the right call.
        baselines: name of a simpler method in `wording.TEXTS` -> the same for that method.
    """
    return _conclude_shares("exact_calls", right, baselines, "row", "")


def conclude_numbers(
    predicted: np.ndarray,
    truth: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    base: str = "",
) -> Conclusion:
    """Return the conclusion on a regressor, by its mean absolute error.

    Args:
        predicted, truth: float (n,).
        baselines: name of a simpler method in `wording.TEXTS` -> its predictions, float (n,).
        base: as in `Conclusion`.
    """
    errors = np.abs(np.asarray(predicted) - truth)
    score = score_numbers(predicted, truth)["mae"]
    alone = Conclusion("mae", score, len(truth), "row", mean_interval(errors), base=base)
    others = {name: np.abs(values - truth) for name, values in baselines.items()}
    if not others:
        return alone
    best = min(reversed(list(others)), key=lambda name: float(others[name].mean()))
    difference = mean_interval(errors - others[best])
    if difference is None:
        return alone
    reached = float(others[best].mean())
    return dataclasses.replace(alone, baseline=best, baseline_score=reached, difference=difference)


def conclude_pairs(
    ours: np.ndarray,
    theirs: np.ndarray | None,
    scores: Sequence[float] | None,
    correlation: Callable[[np.ndarray, np.ndarray], float],
    base: str = "",
) -> Conclusion | None:
    """Return the conclusion on an embedder, or None if the cosines have no correlation.

    Args:
        ours: for scored pairs float (n,), cosines; for others bool (n,), True if the second text of
            a pair is the nearest to the first.
        theirs: the same by TF-IDF; None: not measured.
        scores: float (n,), of the pairs; None: they have none.
        correlation: (cosines, scores) -> Spearman's correlation.
        base: as in `Conclusion`.
    """
    others = {} if theirs is None else {"tfidf_cosine": np.asarray(theirs)}
    if scores is None:
        return _conclude_shares("found", np.asarray(ours), others, "pair", base)
    known = np.asarray(scores, dtype=float)
    count = len(known)
    score = float(correlation(ours, known))
    if not math.isfinite(score):
        return None
    interval = bootstrap_interval(lambda rows: correlation(ours[rows], known[rows]), count)
    alone = Conclusion("spearman", score, count, "pair", interval, base=base)
    if theirs is None or not math.isfinite(other := float(correlation(theirs, known))):
        return alone
    difference = bootstrap_interval(
        lambda rows: correlation(ours[rows], known[rows]) - correlation(theirs[rows], known[rows]),
        count,
    )
    if difference is None:
        return alone
    return dataclasses.replace(
        alone, baseline="tfidf_cosine", baseline_score=other, difference=difference
    )


def conclude_preferences(ours: np.ndarray, base: np.ndarray) -> Conclusion:
    """Return the conclusion on a model that learned preferences.

    Args:
        ours: bool (n,), True for each held-out pair whose chosen answer is the likelier one.
        base: the same by the model before the training.
    """
    return _conclude_shares("preferred", ours, {"base": base}, "pair", "")


def conclude_spans(ours: Counts, baselines: Mapping[str, Counts], base: str = "") -> Conclusion:
    """Return the conclusion on a tagger.

    Args:
        ours: numbers of right, marked and true spans in each held-out row.
        baselines: name of a simpler method in `wording.TEXTS` -> the same for that method.
        base: as in `Conclusion`.
    """
    interval = f1_interval(ours)
    alone = Conclusion("entity_f1", ours.f1(), len(ours.truths), "row", interval, base=base)
    if not baselines:
        return alone
    best = max(baselines, key=lambda name: baselines[name].f1())
    difference = f1_difference(ours, baselines[best])
    if difference is None:
        return alone
    return dataclasses.replace(
        alone, baseline=best, baseline_score=baselines[best].f1(), difference=difference
    )


def conclude_texts(
    scores: Mapping[str, Any],
    written: Sequence[str] = (),
    references: Sequence[str] = (),
    intervals: Mapping[str, Interval | None] | None = None,
) -> Conclusion | None:
    """Return the conclusion on a model that writes texts, or None if nothing was scored. No simpler
    method is measured.

    Args:
        scores: from `texts.score_texts` or `texts.score_answers`; or "bits_per_byte" or
            "perplexity" of a held-out text.
        written, references: the n texts that were scored, and the n expected ones.
        intervals: of "bits_per_byte" and "perplexity".
    """
    count = len(references)
    if "bleu_tokenize" in scores and count:
        interval = bleu_interval(written, references, scores["bleu_tokenize"])
        return Conclusion("bleu", scores["bleu"], count, "row", interval)
    if "token_f1" in scores and count:
        values = np.array(answer_f1s(written, references))
        interval = mean_interval(values)
        return Conclusion("token_f1", scores["token_f1"], count, "row", interval)
    for measure in ("bits_per_byte", "perplexity"):
        if measure in scores:
            silence = "no baseline of a base"
            interval = (intervals or {}).get(measure)
            return Conclusion(measure, scores[measure], 1, "text", interval, silence=silence)
    return None


def base_for(texts: Sequence[str] | None) -> str:
    """Return the name of a base to begin with for such texts, see `bases`; None: for images."""
    if texts is None:
        return "images"
    if unspaced_share(texts) <= 0.5:
        return "minilm"
    kana = sum(bool(KANA.search(text)) for text in texts)
    return "japanese" if kana > len(texts) / 2 else "multilingual"


def _conclude_shares(
    measure: str,
    right: np.ndarray,
    baselines: Mapping[str, np.ndarray],
    unit: str,
    base: str,
    silence: str = "no baseline",
) -> Conclusion:
    right = np.asarray(right, dtype=bool)
    count = len(right)
    known = Conclusion(
        measure,
        float(right.mean()),
        count,
        unit,
        proportion_interval(int(right.sum()), count),
        base=base,
        silence=silence,
    )
    if not baselines:
        return known
    # The last of equal methods: the linear model rather than the majority.
    best = max(reversed(list(baselines)), key=lambda name: float(np.mean(baselines[name])))
    theirs = np.asarray(baselines[best], dtype=bool)
    return dataclasses.replace(
        known,
        baseline=best,
        baseline_score=float(theirs.mean()),
        difference=paired_difference(right, theirs),
    )
