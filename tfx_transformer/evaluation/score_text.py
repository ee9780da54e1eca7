"""Scores as readable texts: shares as percentages, others with as many decimals as they need."""

from __future__ import annotations

from tfx_transformer import wording
from tfx_transformer.reprs import significant

# Scores from 0 to 1 that are shown as percentages, and decimals of the others.
_PERCENT = ("accuracy", "entity_f1", "exact_calls", "exact_match", "found", "preferred")
_DECIMALS = {"spearman": 3, "token_f1": 3, "bleu": 1, "bits_per_byte": 3, "perplexity": 2}

# Scores to minimise: errors in the unit of the data, and losses of a text.
ERRORS = ("mae",)
LOSSES = ("bits_per_byte", "perplexity")


def number_text(measure: str, value: float, sign: str = "") -> str:
    """Return a value on the scale of a measure, without its unit, such as "91.2".

    Args:
        measure: name of the score, such as "accuracy".
        value: value of the score.
        sign: "+" shows the sign of positive values too.
    """
    if measure in _PERCENT:
        return f"{100 * value:{sign}z.1f}"  # z: -0.04 is 0.0, not -0.0
    if measure in ERRORS:
        return sign * (value > 0) + significant(value)
    return f"{value:{sign}z.{_DECIMALS[measure]}f}"


def value_text(measure: str, value: float) -> str:
    """Return a value with its unit, such as "91.2 %"; arguments as for `number_text`."""
    return number_text(measure, value) + " %" * (measure in _PERCENT)


def distance_text(
    measure: str, value: float, language: str | None = None, signed: bool = False
) -> str:
    """Return the difference of two values, such as "+3.1 points".

    Args:
        measure, value: as for `number_text`.
        language: "en" or "ja"; None: see `wording`.
        signed: True to show the sign of positive differences too.
    """
    number = number_text(measure, value, "+" * signed)
    return wording.say("points", language, number=number) if measure in _PERCENT else number
