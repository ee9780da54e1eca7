"""Scores in words: percentages, decimals, intervals; and the main score of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.report.records import Records, number
from tfx_transformer.report.texts import Say
from tfx_transformer.reprs import significant

# Scores from 0 to 1 that are shown as percentages, and the decimals of others.
_PERCENT = frozenset(
    {
        "accuracy",
        "calibration_error",
        "entity_f1",
        "exact_calls",
        "exact_match",
        "f1",
        "found",
        "macro_f1",
        "micro_f1",
        "precision",
        "preferred",
        "recall",
        "right_tools",
        "token_accuracy",
        "valid_calls",
    }
)
_DECIMALS = {"bleu": 1, "chrf": 1, "perplexity": 2}
# Scores in the unit of the data, which may have any size.
_IN_UNITS = frozenset({"mae"})
# The name of the teacher, whose scores are recorded next to those of the baselines.
TEACHER = "the teacher"
_LOWER = frozenset({"mae", "calibration_error", "log_loss", "perplexity", "bits_per_byte"})
# The main score of a model is the first of these that it has.
_FIRST = (
    "entity_f1",
    "accuracy",
    "micro_f1",
    "mae",
    "spearman",
    "found",
    "preferred",
    "exact_calls",
    "token_f1",
    "bleu",
    "chrf",
    "bits_per_byte",
    "perplexity",
)


def value_text(measure: str, value: Any) -> str:
    """Return a score such as "91.2 %" or "0.812"; "–" if it is not a number."""
    found = number(value)
    if found is None:
        return "–"
    if measure in _PERCENT:
        return f"{100 * found:.1f} %"
    if measure in _IN_UNITS:
        return significant(found)
    return f"{found:.{_DECIMALS.get(measure, 3)}f}"


def change_text(measure: str, value: float, before: float, say: Say) -> str:
    """Return the difference of a score from another one, such as "−0.4 points"."""
    if measure in _IN_UNITS:
        difference = value - before
        # A change is shown with the digits of the score.
        shown = significant(difference) if abs(difference) >= 0.0005 * abs(before) else "0"
        return ("+" * (difference > 0 and shown != "0") + shown).replace("-", "−")
    scale, decimals = (100, 1) if measure in _PERCENT else (1, _DECIMALS.get(measure, 3))
    text = f"{scale * (value - before):+.{decimals}f}"
    if float(text) == 0:
        text = f"{0:.{decimals}f}"
    text = text.replace("-", "−")
    return say("points", number=text) if measure in _PERCENT else text


def interval_text(measure: str, score: Mapping[str, Any], say: Say) -> str:
    """Return a score's interval such as "88.1 to 93.4"; "" if it has none."""
    low, high = number(score.get("low")), number(score.get("high"))
    if low is None or high is None:
        return ""
    ends = (value_text(measure, end).removesuffix(" %") for end in (low, high))
    return say("ends", **dict(zip(("low", "high"), ends, strict=True)))


def is_percentage(measure: str) -> bool:
    """Return True for a score from 0 to 1 that is shown in percent."""
    return measure in _PERCENT


def lower_is_better(measure: str) -> bool:
    """Return True for a loss or an error."""
    return measure in _LOWER


def scores_of(records: Records) -> dict[str, Mapping[str, Any]]:
    """Return each score of evaluation.json with its "value", "low" and "high"; without that file,
    the values in result.json."""
    found = records.evaluation.get("scores")
    if isinstance(found, dict):
        return {
            name: score
            for name, score in found.items()
            if isinstance(score, dict) and number(score.get("value")) is not None
        }
    known = [*_FIRST, *sorted(_PERCENT), "chrf", "log_loss", "mean_reciprocal_rank"]
    return {
        name: {"value": records.result[name]}
        for name in dict.fromkeys(known)
        if number(records.result.get(name)) is not None
    }


def baselines_of(records: Records) -> dict[str, Mapping[str, Any]]:
    """Return the scores of the baselines by their names."""
    found = records.evaluation.get("baselines") or records.result.get("baselines")
    if not isinstance(found, dict):
        return {}
    return {name: scores for name, scores in found.items() if isinstance(scores, dict)}


def first_measure(records: Records) -> str | None:
    """Return the name of the model's main score, or None."""
    scores = scores_of(records)
    concluded = records.result.get("conclusion")
    if isinstance(concluded, dict) and concluded.get("measure") in scores:
        return concluded["measure"]
    return next((name for name in _FIRST if name in scores), None)


def best_baseline(records: Records, measure: str) -> tuple[str, float] | None:
    """Return the name and the score of the best baseline, or None. A teacher is not a baseline."""
    found = {
        name: score
        for name, scores in baselines_of(records).items()
        if name != TEACHER and (score := number(scores.get(measure))) is not None
    }
    if not found:
        return None
    choose = min if lower_is_better(measure) else max
    name = choose(found, key=lambda name: found[name])
    return name, found[name]


def duration_text(seconds: float, say: Say) -> str:
    """Return a time such as "45 s", "3 min 20 s" or "1 h 05 min" in the language of the report."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes >= 60:
        return say("time hours", hours=minutes // 60, minutes=f"{minutes % 60:02d}")
    if minutes:
        return say("time minutes", minutes=minutes, seconds=f"{seconds:02d}")
    return say("time seconds", seconds=seconds)
