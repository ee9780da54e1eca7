"""The fixed texts in the pictures of a run, in the language of its report; see `wording`."""

from __future__ import annotations

from typing import Any

from tfx_transformer import wording

# English, with fields of `str.format` -> Japanese.
_JAPANESE = {
    # Labels.
    "Accuracy {share:.1f} %: {right:,} of {total:,}": (
        "正解率 {share:.1f} %（{total:,}件中{right:,}件）"
    ),
    "predicted": "予測",
    "true": "正解",
    "Calibration error {error:.1f} % (ECE)": "期待較正誤差（ECE）{error:.1f} %",
    "mean confidence {confidence:.1f} %, accuracy {accuracy:.1f} %": (
        "平均確信度 {confidence:.1f} %、正解率 {accuracy:.1f} %"
    ),
    "accuracy": "正解率",
    "perfect calibration": "理想",
    "gap to the mean confidence": "平均確信度との差",
    "share that is right": "正解の割合",
    "confidence: the highest probability": "確信度（最も高い確率）",
    "examples": "件数",
    # Training.
    "Loss per epoch": "エポックごとの損失",
    "epoch": "エポック",
    "loss": "損失",
    "training": "学習",
    "validation": "検証",
    "no epoch has a finite loss": "損失が有限のエポックがありません",
    "best: {loss} at epoch {epoch:.0f}": "最良: {loss}（エポック{epoch:.0f}）",
    "kept: {loss} at epoch {epoch:.0f}": "採用: {loss}（エポック{epoch:.0f}）",
    "{name} {loss} at epoch {epoch:.0f}": "{name} {loss}（エポック{epoch:.0f}）",
    " (best)": "（最良）",
    " (kept)": "（採用）",
    # Lengths.
    "texts": "件数",
    "tokens per text": "1件あたりのトークン数",
    "1 text": "1件",
    "{count:,} texts": "{count:,}件",
    ", longest {longest:,}": "、最長 {longest:,}",
    " ({count:,} not shown)": "（{count:,}件は範囲外）",
    "median {length:,}": "中央値 {length:,}",
    "limit {limit:,}, {share} longer": "上限 {limit:,}、超過 {share}",
    "none": "なし",
    # Others.
    "attention weight": "注意の重み",
    "looks at": "参照先",
    "token": "トークン",
    "Most confident mistakes": "確信度の高い誤り",
    "label: {label}": "正解: {label}",
}


def say(english: str, **fields: Any) -> str:
    """Return a text in the language of this process with its fields filled in.

    Args:
        english: the text in English, which names it.
        fields: values for the fields of the text.
    """
    text = _JAPANESE[english] if wording.language() == "ja" else english
    return text.format(**fields)
