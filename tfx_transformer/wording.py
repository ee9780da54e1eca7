"""The texts at the end of a run and of model cards, in English and in Japanese: one table.

The language is given by `--language`, else by the environment variable TFX_LANGUAGE; else it is
Japanese if the locale (LC_ALL, LC_MESSAGES or LANG) is, else English. Error messages are English.
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
    "entity_f1": ("entity F1", "固有表現のF1"),
    "found": ("retrieval accuracy", "検索の正解率"),
    "exact_calls": ("exact tool calls", "ツール呼び出しの完全一致率"),
    "preferred": ("chosen answers preferred", "選ばれた回答のほうを好む割合"),
    "spearman": ("Spearman correlation", "スピアマンの順位相関係数"),
    "mae": ("mean absolute error", "平均絶対誤差"),
    "bleu": ("BLEU", "BLEU"),
    "token_f1": ("token F1", "トークンF1"),
    "bits_per_byte": ("bits per byte", "1バイトあたりのビット数"),
    "perplexity": ("perplexity", "パープレキシティ"),
    # Baselines.
    "majority": ("always giving the most frequent label", "常に最多のラベルを返す方法"),
    "tfidf": (
        "a linear model (TF-IDF + logistic regression)",
        "線形モデル（TF-IDF + ロジスティック回帰）",
    ),
    "pixels": (
        "a linear model (logistic regression on pixels)",
        "線形モデル（ピクセル値のロジスティック回帰）",
    ),
    "edges": (
        "a linear model (logistic regression on edges and colours)",
        "線形モデル（輪郭と色のロジスティック回帰）",
    ),
    "mean": ("always giving the mean of the training rows", "常に学習データの平均を返す方法"),
    "ridge": (
        "a linear model (TF-IDF + ridge regression)",
        "線形モデル（TF-IDF + リッジ回帰）",
    ),
    "frequent": (
        "always making the most frequent call",
        "常に最多の呼び出しを返す方法",
    ),
    "nearest": (
        "copying the call of the most similar training row (TF-IDF)",
        "最も似た学習データの呼び出しを返す方法（TF-IDF）",
    ),
    "nearest, short": ("the call of the most similar row", "最も似た行の呼び出し"),
    "base": ("the base", "元のモデル"),
    "base, short": ("the base", "元のモデル"),
    "tfidf_cosine": ("TF-IDF cosines", "TF-IDFのコサイン類似度"),
    "dictionary": (
        "a dictionary of the training spans",
        "学習データの語句をそのまま探す辞書",
    ),
    "linear_words": (
        "a linear model of words (logistic regression)",
        "単語の線形モデル（ロジスティック回帰）",
    ),
    "dictionary, short": ("the dictionary", "辞書"),
    "linear_words, short": ("the linear model", "線形モデル"),
    "tfidf, short": ("the linear model", "線形モデル"),
    "ridge, short": ("the linear model", "線形モデル"),
    "pixels, short": ("the linear model", "線形モデル"),
    "edges, short": ("the linear model", "線形モデル"),
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
    "better, of an error": (
        "Better than {baseline}: its {measure} is smaller by {difference} (95 %: {low} to {high}) "
        "on {held_out}, {score} against {other}.",
        "{baseline}より{measure}が{difference}小さく（95 %信頼区間 {low}〜{high}）、"
        "{other}に対して{score}でした（{held_out}）。",
    ),
    "worse, of an error": (
        "Worse than {baseline}: its {measure} is larger by {difference} (95 %: {low} to {high}) "
        "on {held_out}, {score} against {other}.",
        "{baseline}より{measure}が{difference}大きく（95 %信頼区間 {low}〜{high}）、"
        "{other}に対して{score}でした（{held_out}）。",
    ),
    "no baseline": (
        "This task has no baseline: judge the model by samples of its output.",
        "このタスクにはベースラインがありません。出力例を見て判断してください。",
    ),
    "no baseline of labels": (
        "There is no baseline for rows with several labels.",
        "1行に複数のラベルがあるデータにはベースラインがありません。",
    ),
    "no baseline of a base": (
        "This is a base to fine-tune: judge it by the score on the task after fine-tuning.",
        "これはファインチューニング用のベースモデルです。"
        "ファインチューニング後のタスクで評価してください。",
    ),
    "points": ("{number} points", "{number}ポイント"),
    # A model and the one it was trained further from.
    "compared": (
        "{new_name} against {old_name} on the same {held_out}: {measure} {new}, before {old}; "
        "difference {difference}.",
        "{new_name}と{old_name}を同じデータ（{held_out}）で比べました。{measure}は{old}から{new}に"
        "なり、差は{difference}です。",
    ),
    "with interval": (
        "{score} (95 %: {low} to {high})",
        "{score}（95 %信頼区間 {low}〜{high}）",
    ),
    "the old": ("the old {model}", "これまでの{model}"),
    "the new": ("the new {model}", "新しい{model}"),
    "compared better": ("The new model is better. ", "新しいモデルのほうが優れています。"),
    "compared no different": ("No clear difference. ", "はっきりした差はありません。"),
    "compared worse": ("The new model is worse. ", "新しいモデルのほうが劣っています。"),
    "kept": ("Use {new_name}.", "{new_name}を使ってください。"),
    "kept new": (
        "Use {new_name}, which scores no worse and has seen the new rows.",
        "新しい行も学習し、評価も下がっていない{new_name}を使ってください。",
    ),
    "kept old": (
        "Keep {old_name}, which scores better and stays as it is; the new model is {new_name}.",
        "評価の高い{old_name}を引き続き使ってください（変更していません）。"
        "新しいモデルは{new_name}です。",
    ),
    "kept replaced": (
        "It scores no worse, and has replaced {old_name}.",
        "評価が下がっていないため、{old_name}を置き換えました。",
    ),
    # A linear classifier that is part of the model.
    "linear together": (
        "The model contains a linear classifier, which answers together with the Transformer.",
        "このモデルは内蔵の線形分類器とTransformerを組み合わせて答えます。",
    ),
    "linear alone": (
        "Only the linear classifier inside the model answers: the held-out rows do not show that "
        "the Transformer helps.",
        "検証用データではTransformerが役に立つと確かめられなかったため、"
        "このモデルは内蔵の線形分類器だけで答えます。",
    ),
    # What to do about it.
    "take the simple": ("take {baseline}", "{baseline}を使うか"),
    "more rows": ("add rows", "データを増やすか"),
    "other base": (
        "start from a pre-trained encoder (--base {base})",
        "事前学習済みエンコーダ（--base {base}）から始めてください",
    ),
    "other settings": (
        "train with other settings (--learning-rate, --epochs)",
        "学習率やエポック数（--learning-rate、--epochs）を変えて学習し直してください",
    ),
    "hold out more": (
        "Few rows are held out, so the score is uncertain: hold out more (--share) or give a "
        "validation file (--validation).",
        "検証用データが少ないため、この値は不確かです。--share で割合を増やすか、"
        "--validation で検証用のファイルを指定してください。",
    ),
    # Model cards.
    "card task causal": ("writes text", "テキストを生成する"),
    "card task classification": ("labels its input", "入力にラベルを付ける"),
    "card task embedding": ("turns texts into vectors", "テキストをベクトルに変換する"),
    "card task masked": ("fills in hidden tokens", "隠されたトークンを予測する"),
    "card task other": ("answers its input", "入力に応答する"),
    "card task regression": ("predicts a number for a text", "テキストから数値を予測する"),
    "card task seq2seq": ("turns a text into another, such as a translation", "翻訳などを行う"),
    "card task tagging": ("marks spans of a text", "文中のスパン（固有表現など）を抽出する"),
    "card task tools": ("calls functions", "関数を呼び出す"),
    "card layer": ("{layers} layer", "{layers}層"),
    "card layers": ("{layers} layers", "{layers}層"),
    "card head": ("{heads} head", "ヘッド数{heads}"),
    "card heads": ("{heads} heads", "ヘッド数{heads}"),
    "card summary": (
        "A Transformer that {task}. It has {parameters:,} parameters: {depth} of width {width}, "
        "{heads}, {reads}.",
        "{task}Transformerモデルです。パラメータ数は{parameters:,}"
        "（{depth}、幅{width}、{heads}、{reads}）。",
    ),
    "card reads texts": (
        "a vocabulary of {tokens:,} tokens, texts of at most {limit:,} tokens",
        "語彙{tokens:,}トークン、最大長{limit:,}トークン",
    ),
    "card reads images": (
        "images of {size} x {size} pixels, read as {vectors:,} vectors",
        "{size} x {size}ピクセルの画像を{vectors:,}個のベクトルとして処理",
    ),
    "card usage": ("Use", "使い方"),
    "card shell": (
        "Run it in this folder, without TensorFlow:",
        "このフォルダで、TensorFlowなしで実行できます:",
    ),
    "card base usage": (
        "Fine-tune it: `tfx-transformer run text_classification --csv table.csv --base {path}`",
        "ファインチューニングして使います: "
        "`tfx-transformer run text_classification --csv table.csv --base {path}`",
    ),
    "card phone": (
        "On a phone, in a browser or on a microcontroller: the `.tflite` files run in LiteRT; the "
        "tokenizer is in `tokenizer.json`.",
        "スマートフォン、ブラウザ、マイコンでは、拡張子が`.tflite`のファイルをLiteRTで"
        "実行します。トークナイザは`tokenizer.json`です。",
    ),
    "card phone images": (
        "On a phone, in a browser or on a microcontroller: the `.tflite` files run in LiteRT. They "
        "read images of {size} x {size} pixels, with colours from 0 to 255.",
        "スマートフォン、ブラウザ、マイコンでは、拡張子が`.tflite`のファイルをLiteRTで"
        "実行します。入力は{size} x {size}画素の画像で、色の値は0から255です。",
    ),
    "card litertlm": (
        "`model.litertlm` has the model and its tokenizer for LiteRT-LM.",
        "`model.litertlm`はモデルとトークナイザをまとめたLiteRT-LM用のファイルです。",
    ),
    "card tools": ("Functions", "関数"),
    "card declared": (
        "{names}. `{file}` declares them.",
        "{names}（`{file}`で宣言されています）",
    ),
    "card labels": ("Labels", "ラベル"),
    "card target": (
        "It predicts `{column}`. In the training rows its mean is {mean}, its standard deviation "
        "{deviation}.",
        "`{column}`を予測します（学習データの平均{mean}、標準偏差{deviation}）。",
    ),
    "card data": ("Data", "データ"),
    "card rows": ("rows", "行数"),
    "card held_out_rows": ("held-out rows", "検証用の行数"),
    "card tokens": ("tokens", "トークン数"),
    "card teacher": ("teacher", "教師モデル"),
    "card taught": (
        "{teacher}, whose answers this model learned to give",
        "{teacher}（このモデルはその回答から学習しました）",
    ),
    "card unlabelled": ("answered by the teacher", "教師モデルが答えたデータ"),
    "card rehearsed": ("rehearsed", "復習用のデータ"),
    "card columns": ("columns", "列"),
    "card scores": ("Scores", "評価"),
    "card calibration": (
        "Probabilities are calibrated on {count:,} held-out examples (temperature {temperature:g}):"
        " the expected calibration error is {after:.1f} %, and was {before:.1f} % before.",
        "確率は検証用データ{count:,}件で較正されています（温度{temperature:g}）。"
        "期待較正誤差は{before:.1f} %から{after:.1f} %になりました。",
    ),
    "card calibration not needed": (
        "Probabilities are used as they are: no temperature makes them fit the {count:,} held-out "
        "examples better. The expected calibration error is {after:.1f} %.",
        "確率は変更していません（どの温度でも検証用データ{count:,}件への当てはまりは良くなりません"
        "でした）。期待較正誤差は{after:.1f} %です。",
    ),
    "card limits": ("Intended use and limits", "想定する用途と限界"),
    "card use causal": (
        "Meant to continue or answer texts like those of its training.",
        "学習データに近い文章の生成や応答を想定しています。",
    ),
    "card use classification": (
        "Meant to label inputs like those of its training.",
        "学習データに近い入力の分類を想定しています。",
    ),
    "card use embedding": (
        "Meant to compare and find texts like those of its training.",
        "学習データに近い文章の比較と検索を想定しています。",
    ),
    "card use masked": (
        "Meant as a base to fine-tune.",
        "ファインチューニングのベースモデルとしての利用を想定しています。",
    ),
    "card use other": (
        "Meant for inputs like those of its training.",
        "学習データに近い入力を想定しています。",
    ),
    "card use regression": (
        "Meant to predict numbers for texts like those of its training.",
        "学習データに近いテキストの数値の推定を想定しています。",
    ),
    "card use seq2seq": (
        "Meant for texts like the sources of its training.",
        "学習データの原文に近い文章を想定しています。",
    ),
    "card use tagging": (
        "Meant to mark names and the like in texts like those of its training.",
        "学習データに近い文章から、名前などの語句を抽出する用途を想定しています。",
    ),
    "card use tools": (
        "Meant to call its functions for requests like those of its training.",
        "学習データに近い依頼に応じた関数の呼び出しを想定しています。",
    ),
    "card limits data": (
        "On inputs unlike the training data in language, topic or style, it makes more errors than "
        "the scores say.",
        "言語・話題・文体が学習データと異なる場合、誤りは上の評価より多くなります。",
    ),
    "card limits images": (
        "On images unlike those of its training, it makes more errors than the scores say.",
        "学習データの画像と大きく異なる画像では、誤りは上の評価より多くなります。",
    ),
    "card limits length": (
        "It reads at most {limit:,} tokens; the rest is cut.",
        "読み込むのは最大{limit:,}トークンで、それ以降は切り捨てられます。",
    ),
    "card limits windows": (
        "It reads {limit:,} tokens at once, and a longer text in overlapping windows.",
        "一度に読み込むのは{limit:,}トークンで、長い文章は重なりのある区間に分けて処理します。",
    ),
    "card limits spans": (
        "It marks no nested spans. `predict --unsure` leaves out spans below a probability.",
        "入れ子のスパンには対応していません。確率の低いスパンは`predict --unsure`で除外できます。",
    ),
    "card limits labels": (
        "It gives every input one of its labels, even if none fits. `predict --unsure` leaves a "
        "label open below a probability.",
        "どのラベルにも当てはまらない入力にもラベルを付けます。確率の低いものは"
        "`predict --unsure`で空欄にできます。",
    ),
    "card limits numbers": (
        "It predicts a number for every text, even for one unlike its training data. Most errors "
        "are about as large as the mean absolute error, some are several times larger.",
        "学習データに似ていないテキストにも数値を返します。誤差の多くは平均絶対誤差程度ですが、"
        "その数倍になることもあります。",
    ),
    "card limits facts": (
        "Its texts may be wrong, however fluent they are.",
        "流暢な文章でも、内容が正しいとは限りません。",
    ),
    "card limits calls": (
        "Its calls may be wrong: confirm those that cannot be undone.",
        "呼び出しが正しいとは限りません。元に戻せない操作は、実行前に確認してください。",
    ),
    "card limits people": (
        "Not for decisions about people, unless a person checks each of them.",
        "人に関わる判断には、必ず人による確認が必要です。",
    ),
    "card training": ("Training", "学習"),
    "card epochs": ("epochs", "エポック数"),
    "card best_epoch": ("best epoch", "採用したエポック"),
    "card val_loss": ("held-out loss", "検証用データの損失"),
    "card seconds": ("time", "所要時間"),
    "card waiting": ("waited for data", "データを待った時間の割合"),
    "card settings": ("settings", "設定"),
    "card versions": ("versions", "バージョン"),
    "card files": ("Files", "ファイル"),
    "card file": ("file", "ファイル"),
    "card size": ("size", "サイズ"),
    "card milliseconds": ("milliseconds per example", "1件あたりのミリ秒"),
    "card change": ("change against the float32 file", "float32のファイルとの差"),
    "rounded": (
        "4-bit weights are {way}. Mean change of the answers to {others}: {changes}.",
        "4ビットの重みは{way}。{others}での回答の平均変化: {changes}",
    ),
    "rounded without change": (
        "4-bit weights are {way}. None of the ways changes the answers to {others}.",
        "4ビットの重みは{way}。{others}の回答は、どの丸め方でも変わりません。",
    ),
    "rounded others": (
        "{compared:,} other training rows",
        "丸めに使っていない学習データ{compared:,}件",
    ),
    "rounded other": (
        "{compared:,} other training row",
        "丸めに使っていない学習データ{compared:,}件",
    ),
    "rounded nearest": ("rounded to nearest", "最近接丸めです"),
    "rounded scales": (
        "rounded to nearest, with the best scale for each 32 weights",
        "最近接丸めで、重み32個ごとに最良のスケールを選んでいます",
    ),
    "rounded rows": (
        "rounded so that the outputs of layers change least on {rows:,} training rows",
        "学習データ{rows:,}件で各層の出力の変化が最小になるように丸めています",
    ),
    "rounded trained": (
        "4-bit weights are rounded to nearest, as in the last epochs of the training.",
        "4ビットの重みは、学習の最後のエポックと同じ最近接丸めです。",
    ),
    "rounded by nearest": ("to nearest", "最近接"),
    "rounded by scales": ("best scales", "最良のスケール"),
    "rounded by rows": ("on rows", "学習データ"),
    "card verified": ("Verified", "検証済みのエクスポート"),
    "card licences": ("Licence", "ライセンス"),
    "card licence": ("{licence}.", "{licence}"),
    "card no licence": (
        "No licence is stated. To publish this model, state one that the licences of its data and "
        "of its base allow.",
        "ライセンスは指定されていません。公開する場合は、学習データとベースモデルのライセンスに"
        "従って指定してください。",
    ),
    "card base": (
        "Its base is {base}; the licence of the base also applies.",
        "ベースモデルは{base}で、そのライセンスも適用されます。",
    ),
    # The end of a run.
    "report": ("Report: {path}", "レポート: {path}"),
    "next": ("Next:", "次のコマンド:"),
}

_language: str | None = None


def use(language: str | None) -> None:
    """Set the language of this process; None: that of the environment.

    Raises:
        InputError: it is not one of `LANGUAGES`.
    """
    global _language
    _language = None if language is None else _check_language(language, "--language")


def language() -> str:
    """Return the language of this process, "en" or "ja".

    Raises:
        InputError: TFX_LANGUAGE is not one of `LANGUAGES`.
    """
    if _language is not None:
        return _language
    if named := os.environ.get("TFX_LANGUAGE"):
        return _check_language(named, "TFX_LANGUAGE")
    locale = next((value for name in _LOCALE if (value := os.environ.get(name))), "")
    return "ja" if locale.lower().startswith("ja") else "en"


def say(name: str, in_language: str | None = None, **fields: Any) -> str:
    """Return a text of the table with its fields filled in.

    Args:
        name: name of the text.
        in_language: "en" or "ja"; None: the language of this process.
        fields: values of the text's fields.
    """
    return TEXTS[name][LANGUAGES.index(in_language or language())].format(**fields)


def examples(count: int, unit: str, in_language: str | None = None) -> str:
    """Return a number of held-out examples in words, such as "360 held-out rows".

    Args:
        count: number of examples.
        unit: "row", "image", "pair" or "text".
        in_language: see `say`.
    """
    noun = say(unit, in_language)
    if (in_language or language()) == "ja":
        return say("held out", in_language, examples=f"{count:,}{noun}")
    return quantity(count, f"held-out {noun}")


def alternatives(parts: Sequence[str], in_language: str | None = None) -> str:
    """Return a sentence of alternatives, in their order.

    Args:
        parts: parts of the sentence, in that language.
        in_language: see `say`.
    """
    if (in_language or language()) == "ja":
        return "、".join(parts) + "。"
    text = ", or ".join(parts)
    return text[0].upper() + text[1:] + "."


def _check_language(language: str, source: str) -> str:
    if language not in LANGUAGES:
        raise InputError(f"{source} is {language!r}.\n  Expected one of: {', '.join(LANGUAGES)}.")
    return language
