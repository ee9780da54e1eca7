"""The lines of a run in the terminal: its result and scores, times, texts on one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.generation.text import Prompt
from tfx_transformer.reprs import duration, quantity, significant

# Scores of written texts, and of predicted labels.
_WRITTEN = {
    "bleu": "BLEU {}",
    "chrf": "chrF {}",
    "token_f1": "token F1 {:.3f}",
    "bits_per_byte": "{:.3f} bits per byte",
    "perplexity": "perplexity {:.2f}",
}
_LABELS = {
    "entity_f1": "entity F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "exact_match": "all labels right",
    "exact_calls": "exact calls",
    "right_tools": "right tool",
    "valid_calls": "valid calls",
    "preferred": "chosen answer preferred",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "calibration_error": "calibration error",
}


def result_lines(
    training: Mapping[str, Any], scores: str, folder: Path, others: Mapping[str, str] | None = None
) -> list[str]:
    """Return the result of a training: "1 epoch in 45 s, the best was epoch 1.", the share of time
    that it waited for data, the scores, those of others below them, and the folder of the pictures.

    Args:
        training: "epochs", "seconds", "best_epoch" and, if it is known, "waiting".
        scores: scores on held-out examples, in words.
        folder: folder of the run.
        others: scores of baselines and of the teacher, in words, by name.
    """
    epochs = quantity(training["epochs"], "epoch")
    text = f"{epochs} in {duration(training['seconds'])}, the best was epoch "
    lines = [f"{text}{training['best_epoch']}."]
    if "waiting" in training:
        waited = 100 * training["waiting"]
        lines.append(f"Steps waited for data in {waited:.1f} % of their time.")
    lines += wrapped(f"Held out: {scores}.", COLUMNS, "  ") if scores else []
    longest = max(map(len, others or [""]))
    for name, reached in (others or {}).items():
        lines += wrapped(f"  {name + ':':<{longest + 1}} {reached}", COLUMNS, "    ")
    return [*lines, f"Pictures are in {folder}/"]


def written_scores_line(scores: Mapping[str, Any]) -> str:
    """Return the scores of written texts in one line, such as "BLEU 61.2, 94.7 % exactly right"."""
    parts = [text.format(scores[name]) for name, text in _WRITTEN.items() if name in scores]
    if "exact_match" in scores:
        parts.append(f"{100 * scores['exact_match']:.1f} % exactly right")
    return ", ".join(parts)


def label_scores_line(scores: Mapping[str, Any]) -> str:
    """Return the scores of labels in one line, such as "accuracy 91.2 %, macro-F1 90.8 %"."""
    found = (
        f"{text} {100 * scores[name]:.1f} %" for name, text in _LABELS.items() if name in scores
    )
    return ", ".join(found)


def number_scores_line(scores: Mapping[str, float | None]) -> str:
    """Return the scores of numbers in one line, such as "mean absolute error 3.12, R² 0.712,
    Spearman 0.845"."""
    parts = [f"mean absolute error {significant(scores['mae'] or 0)}"]
    for name, text in (("r2", "R²"), ("spearman", "Spearman")):
        value = scores[name]
        parts += [] if value is None else [f"{text} {value:.3f}"]
    return ", ".join(parts)


def vector_scores_line(scores: Mapping[str, float]) -> str:
    """Return the scores of vectors in one line, such as "spearman 0.812"."""
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def visible_text(text: Prompt) -> str:
    """Return the visible part of a prompt: the text, or the last message of a conversation."""
    return text if isinstance(text, str) else text[-1]["content"]


def one_line(text: str, longest: int = 100) -> str:
    """Return a text on one line, cut to so many characters."""
    text = " ⏎ ".join(text.splitlines())
    return text if len(text) <= longest else text[: longest - 1] + "…"
