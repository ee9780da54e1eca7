"""Texts that people read at the end of a run, in English and in Japanese: one table.

The language is that of `--language`, else of the environment variable TFX_LANGUAGE, else Japanese
where the locale is (LC_ALL, LC_MESSAGES or LANG), else English. Messages of errors are English.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

LANGUAGES = ("en", "ja")
_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")

# name -> English and Japanese, with fields of `str.format`.
TEXTS: dict[str, tuple[str, str]] = {
    # Held-out examples.
    "row": ("row", "行"),
    "image": ("image", "枚"),
    "pair": ("pair", "組"),
    "text": ("text", "件"),
    "held out": ("{examples}", "検証用データ{examples}"),
    # Scores.
    "accuracy": ("accuracy", "正解率"),
    "exact_match": ("exact match of all labels", "全ラベルの完全一致率"),
    "found": ("retrieval accuracy", "検索の正解率"),
    "spearman": ("Spearman correlation", "スピアマンの順位相関係数"),
    "bleu": ("BLEU", "BLEU"),
    "token_f1": ("token F1", "トークンF1"),
    "bits_per_byte": ("bits per byte", "1バイトあたりのビット数"),
    "perplexity": ("perplexity", "パープレキシティ"),
    # Simpler methods.
    "majority": ("always giving the most frequent label", "常に最多のラベルを返す方法"),
    "tfidf": (
        "a linear model (TF-IDF + logistic regression)",
        "線形モデル（TF-IDF + ロジスティック回帰）",
    ),
    "pixels": (
        "a linear model (logistic regression on pixels)",
        "線形モデル（画素のロジスティック回帰）",
    ),
    "tfidf_cosine": ("TF-IDF cosines", "TF-IDFのコサイン類似度"),
    "tfidf, short": ("the linear model", "線形モデル"),
    "pixels, short": ("the linear model", "線形モデル"),
    "tfidf_cosine, short": ("TF-IDF", "TF-IDF"),
    # Conclusions.
    "score": (
        "{measure}: {score} (95 %: {low} to {high}) on {held_out}.",
        "{measure}は{score}です（95 %信頼区間 {low}〜{high}、{held_out}）。",
    ),
    "score without interval": (
        "{measure}: {score} on {held_out}.",
        "{measure}は{score}です（{held_out}）。",
    ),
    "better": (
        "Better than {baseline} by {difference} of {measure} (95 %: {low} to {high}) on "
        "{held_out}: {score} against {other}.",
        "{baseline}より{measure}が{difference}高く（95 %信頼区間 {low}〜{high}）、"
        "{other}に対して{score}でした（{held_out}）。",
    ),
    "no better": (
        "No better than {baseline} on {held_out}: {measure} {score} against {other}, a "
        "difference of {difference} (95 %: {low} to {high}).",
        "{baseline}より優れているとは言えません。{measure}は{other}に対して{score}、"
        "差は{difference}です（95 %信頼区間 {low}〜{high}、{held_out}）。",
    ),
    "worse": (
        "Worse than {baseline} by {difference} of {measure} (95 %: {low} to {high}) on "
        "{held_out}: {score} against {other}.",
        "{baseline}より{measure}が{difference}低く（95 %信頼区間 {low}〜{high}）、"
        "{other}に対して{score}でした（{held_out}）。",
    ),
    "no baseline": (
        "No simpler method was measured for this task: compare samples of what it writes.",
        "この課題では、より単純な手法との比較をしていません。出力例を見て判断してください。",
    ),
    "no baseline of labels": (
        "No simpler method was measured where a row has several labels.",
        "1行に複数のラベルがある場合は、より単純な手法との比較をしていません。",
    ),
    "no baseline of a base": (
        "It is a base to fine-tune: the task it is fine-tuned for shows what it is worth.",
        "これはファインチューニング用の土台です。真価はファインチューニング後の課題で測られます。",
    ),
    "points": ("{number} points", "{number}ポイント"),
    # What to do about it.
    "take the simple": ("take {baseline}", "{baseline}を使うか"),
    "more rows": ("add rows", "データを増やすか"),
    "other base": (
        "begin with a pre-trained encoder (--base {base})",
        "事前学習済みエンコーダー（--base {base}）から始めてください",
    ),
    "other settings": (
        "train with other settings (--learning-rate, --epochs)",
        "学習率やエポック数（--learning-rate、--epochs）を変えて学習し直してください",
    ),
    "hold out more": (
        "Few rows are held out, so the score is uncertain: hold out more (--share) or give a file "
        "of their own (--validation).",
        "検証用データが少ないため、この値は不確かです。--share で割合を増やすか、"
        "--validation で検証用のファイルを指定してください。",
    ),
    # The end of a run.
    "next": ("Next:", "次のコマンド:"),
}

_chosen: str | None = None


def use(language: str | None) -> None:
    """Choose a language for this process; None: that of the environment.

    Raises:
        InputError: it is not one of `LANGUAGES`.
    """
    global _chosen
    _chosen = None if language is None else _checked(language, "--language")


def language() -> str:
    """Return the language of this process, "en" or "ja".

    Raises:
        InputError: TFX_LANGUAGE is not one of `LANGUAGES`.
    """
    if _chosen is not None:
        return _chosen
    if named := os.environ.get("TFX_LANGUAGE"):
        return _checked(named, "TFX_LANGUAGE")
    locale = next((value for name in _LOCALE if (value := os.environ.get(name))), "")
    return "ja" if locale.lower().startswith("ja") else "en"


def say(name: str, in_language: str | None = None, **fields: Any) -> str:
    """Return a text of the table with its fields filled in.

    Args:
        name: of the text.
        in_language: "en" or "ja"; None: the language of this process.
        fields: of the text.
    """
    return TEXTS[name][LANGUAGES.index(in_language or language())].format(**fields)


def examples(count: int, unit: str, in_language: str | None = None) -> str:
    """Return how many held-out examples there are, such as "360 held-out rows".

    Args:
        count: of them.
        unit: "row", "image", "pair" or "text".
        in_language: of `say`.
    """
    noun = say(unit, in_language)
    if (in_language or language()) == "ja":
        return say("held out", in_language, examples=f"{count:,}{noun}")
    return quantity(count, f"held-out {noun}")


def alternatives(parts: Sequence[str], in_language: str | None = None) -> str:
    """Return a sentence of things that may be done, the last of which ends it.

    Args:
        parts: of the sentence, in that language.
        in_language: of `say`.
    """
    if (in_language or language()) == "ja":
        return "、".join(parts) + "。"
    text = ", or ".join(parts)
    return text[0].upper() + text[1:] + "."


def _checked(language: str, source: str) -> str:
    if language not in LANGUAGES:
        raise InputError(f"{source} is {language!r}.\n  Expected one of: {', '.join(LANGUAGES)}.")
    return language
