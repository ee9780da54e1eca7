"""The quality of a model: its scores, those of simple methods, and its mistakes.

Nothing here needs TensorFlow. The functions that use sacrebleu and scikit-learn import them, so
importing this package is fast.
"""

from tfx_transformer.evaluation.baselines import majority_baseline, pixel_baseline, tfidf_baseline
from tfx_transformer.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    macro_f1_interval,
    mean_interval,
    proportion_interval,
)
from tfx_transformer.evaluation.labels import score_labels, score_multi_label
from tfx_transformer.evaluation.mistakes import most_confident_mistakes
from tfx_transformer.evaluation.numbers import score_numbers
from tfx_transformer.evaluation.texts import score_answers, score_texts, token_f1

__all__ = [
    "Interval",
    "bootstrap_interval",
    "macro_f1_interval",
    "majority_baseline",
    "mean_interval",
    "most_confident_mistakes",
    "pixel_baseline",
    "proportion_interval",
    "score_answers",
    "score_labels",
    "score_numbers",
    "score_multi_label",
    "score_texts",
    "tfidf_baseline",
    "token_f1",
]
