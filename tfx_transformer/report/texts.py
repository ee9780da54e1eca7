"""The fixed texts of a report and of the list of runs, in English and in Japanese."""

from __future__ import annotations

from collections.abc import Callable

from tfx_transformer.wording import LANGUAGES

# name -> English and Japanese, with fields of `str.format`.
_TEXTS: dict[str, tuple[str, str]] = {
    "report": ("Report of {name}", "{name} のレポート"),
    "made": ("{recipe}, {date}", "{recipe}、{date}"),
    "private": (
        "This page has rows of your data. It loads nothing from the network.",
        "このページには学習データの一部が含まれます。外部との通信は行いません。",
    ),
    "contents": ("Contents", "目次"),
    "unfinished": (
        "The exports of this run are not made yet, or were interrupted.",
        "エクスポートはまだ完了していません（または中断されました）。",
    ),
    # Facts.
    "parameters": ("parameters", "パラメータ数"),
    "time": ("time", "所要時間"),
    "time hours": ("{hours} h {minutes} min", "{hours}時間{minutes}分"),
    "time minutes": ("{minutes} min {seconds} s", "{minutes}分{seconds}秒"),
    "time seconds": ("{seconds} s", "{seconds}秒"),
    "comma": (", ", "、"),
    "smallest": ("smallest file", "最小のファイル"),
    "held out": ("held-out examples", "検証用データ"),
    "baseline": ("best baseline", "最良のベースライン"),
    "interval": ("95 %: {ends}", "95 %信頼区間 {ends}"),
    "ends": ("{low} to {high}", "{low}〜{high}"),
    # Sections.
    "conclusion": ("Conclusion", "結論"),
    "data": ("Data", "データ"),
    "training": ("Training", "学習の経過"),
    "scores": ("Scores", "評価"),
    "mistakes": ("Most confident mistakes", "確信度の高い誤り"),
    "errors": ("Largest errors", "誤差の大きい例"),
    "samples": ("Samples", "出力例"),
    "exports": ("Export and quantization", "エクスポートと量子化"),
    "settings": ("Settings", "設定"),
    "use": ("How to use it", "使い方"),
    # Conclusion.
    "plain score": (
        "On {count} held-out examples the model reaches {measure} {value}.",
        "検証用データ{count}件での{measure}は{value}です。",
    ),
    "plain text score": (
        "On the held-out text the model reaches {value} {measure}.",
        "検証用テキストでの{measure}は{value}です。",
    ),
    "plain interval": (
        "Its 95 % confidence interval is {low} to {high}.",
        "95 %信頼区間は{low}〜{high}です。",
    ),
    "plain baseline": (
        "The best simpler method, {name}, reaches {value}.",
        "より単純な手法のうち最良のもの（{name}）は{value}です。",
    ),
    "taught": (
        "The model learned from the answers of its teacher, {teacher}.",
        "教師モデル {teacher} の回答から学習しています。",
    ),
    "taught score": (
        "The model learned from the answers of its teacher, {teacher}, which reaches {value} on "
        "the same examples.",
        "教師モデル {teacher} の回答から学習しています（同じデータでの教師の値は{value}）。",
    ),
    "no scores": (
        "This run has no scores: it did not end, or its records are damaged.",
        "評価の記録がありません。学習が終わっていないか、記録が壊れています。",
    ),
    # Compared with its base.
    "comparison caption": (
        "This model and its base, on the same {count} held-out examples",
        "このモデルとベースモデル（同じ検証用データ{count}件）",
    ),
    "old model": ("before", "以前のモデル"),
    "new model": ("now", "新しいモデル"),
    "difference": ("difference", "差"),
    # Data.
    "data caption": ("Data of the run", "読み込んだデータ"),
    "part": ("part", "区分"),
    "training part": ("training", "学習"),
    "validation part": ("held out", "検証"),
    "unlabelled part": ("answered by the teacher", "教師モデルが答えたデータ"),
    "rehearsed part": ("rehearsed", "復習"),
    "rows": ("rows", "行数"),
    "images": ("images", "画像数"),
    "blocks": ("blocks", "ブロック数"),
    "loss column": ("loss", "損失"),
    "documents": ("documents", "文書数"),
    "tokens": ("tokens", "トークン数"),
    "half": ("median", "中央値"),
    "most": ("95th percentile", "95 %点"),
    "longest": ("longest", "最長"),
    "spans": ("spans", "スパン数"),
    "unmarked": ("without a span", "スパンのない行"),
    "inexact": ("spans that cut words", "単語やトークンの途中で切れるスパン"),
    "windowed": ("read in windows", "区間に分けた行"),
    "known": ("spans also in training", "学習データにもある語句"),
    "truncated": ("cut", "切り詰め"),
    "duplicates": ("repeated", "重複"),
    "contradictions": ("repeated with another label", "ラベルの矛盾"),
    "contradicting numbers": ("repeated with another number", "数値の矛盾"),
    "numbers caption": ("Numbers of the training rows", "学習データの数値の分布"),
    "number": ("number", "数値"),
    "overlap": ("also in training", "学習データと重複"),
    "bad_rows": ("skipped as bad", "除外した不正な行"),
    "bytes": ("bytes", "バイト数"),
    "length unit": ("Lengths are in tokens.", "長さの単位はトークンです。"),
    "overlap warning": (
        "{count} of {whole} held-out examples also occur in training: the scores are optimistic.",
        "検証用データ{whole}件のうち{count}件は学習データにも含まれるため、評価が甘くなります。",
    ),
    "no overlap": (
        "No held-out example occurs in training.",
        "検証用データと学習データに重複はありません。",
    ),
    "labels caption": ("Examples of each label", "ラベルごとの件数"),
    "label": ("label", "ラベル"),
    "share": ("share", "割合"),
    "more labels": ("and {count} more labels", "ほか{count}ラベル"),
    "lengths picture": (
        "Histogram of the texts' token counts",
        "テキストの長さの分布（トークン数）",
    ),
    "bad rows kept": (
        "Skipped rows are listed in {file}.",
        "除外した行の一覧は {file} にあります。",
    ),
    # Training.
    "loss": ("Loss per epoch", "エポックごとの損失"),
    "training line": ("training", "学習"),
    "validation line": ("held out", "検証"),
    "epoch": ("epoch", "エポック"),
    "kept": ("kept: epoch {epoch}", "採用：エポック{epoch}"),
    "score per epoch": ("Score of held-out examples per epoch", "エポックごとの評価指標"),
    "curves note": (
        "These curves are of the Transformer alone; the scores above are of the whole model, with "
        "its linear classifier.",
        "これらの曲線はTransformer単体のものです。上の評価は、内蔵の線形分類器を含むモデル全体のもの"
        "です。",
    ),
    "in percent": ("{score} in %", "{score}（%）"),
    "metrics caption": ("Every epoch", "各エポックの記録"),
    "previews caption": (
        "Output of the model after each epoch",
        "各エポック後の出力の変化",
    ),
    "previews source": ("For “{source}”", "入力：「{source}」"),
    "previews expected": ("Expected: “{expected}”", "正解：「{expected}」"),
    "written": ("written", "出力"),
    # Scores.
    "scores caption": (
        "Scores on {count} held-out examples, with 95 % confidence intervals",
        "検証用データ{count}件での評価（95 %信頼区間つき）",
    ),
    "scores caption text": ("Scores on the held-out text", "検証用テキストでの評価"),
    "score": ("score", "指標"),
    "this model": ("this model", "このモデル"),
    "interval column": ("95 % interval", "95 %信頼区間"),
    "lower": ("lower is better", "小さいほど良い"),
    "classes caption": ("Scores of each label", "ラベルごとの評価"),
    "precision": ("precision", "適合率"),
    "recall": ("recall", "再現率"),
    "f1": ("F1", "F1"),
    "count": ("examples", "件数"),
    "confusion caption": (
        "Confusion matrix: rows are the right labels, columns the predicted ones",
        "混同行列（行：正しいラベル、列：予測したラベル）",
    ),
    "confusion of spans": (
        "Confusion matrix: rows are the right labels, columns those of the predicted span that "
        "shares most characters; – is no span",
        "混同行列（行：正しいラベル、列：最も重なる予測スパンのラベル、–：スパンなし）",
    ),
    "confusion corner": ("right ↓ predicted →", "正解 ↓ 予測 →"),
    "confusion picture": ("Confusion matrix of {count} labels", "{count}ラベルの混同行列"),
    "calibration picture": (
        "Share of right predictions at each confidence",
        "確信度ごとの正解率（信頼度曲線）",
    ),
    "calibration caption": (
        "Calibration: probabilities before and after dividing the logits by {temperature}",
        "較正：ロジットを{temperature}で割る前と後の確率",
    ),
    "calibration not needed": (
        "Calibration: the probabilities stay as they are. No temperature makes them fit the "
        "held-out examples better.",
        "較正：確率は変更していません。どの温度で割っても検証用データへの当てはまりは良くなりません"
        "でした。",
    ),
    "before calibration": ("before", "較正前"),
    "after calibration": ("after", "較正後"),
    "perfect calibration": ("perfect", "理想"),
    "confidence": ("confidence", "確信度"),
    "thresholds caption": (
        "Thresholds of predict --unsure auto, which leaves less probable labels empty",
        "predict --unsure autoのしきい値（これより低い確率のラベルは空欄）",
    ),
    "threshold": ("threshold", "しきい値"),
    "always open": ("always empty", "常に空欄"),
    "thresholds note": (
        "With these thresholds, {answered} of the {count} held-out examples get a label; {right} "
        "of these are right. The thresholds were fitted on the same examples.",
        "このしきい値では検証用データ{count}件のうち{answered}件にラベルが付き、そのうち{right}件が"
        "正解です。しきい値は同じデータで決めたものです。",
    ),
    "attention picture": (
        "Attention: the tokens that each token looks at",
        "アテンション（各トークンが参照するトークン）",
    ),
    "attention note": (
        "Attention shows where the model looks, not why it decides.",
        "アテンションは参照先を示すもので、判断の理由を示すものではありません。",
    ),
    # Scores, explained.
    "meanings": ("What these scores mean", "指標の意味"),
    "means interval column": (
        "the score on many more rows of this kind lies in this range, with a certainty of 95 %.",
        "同種のデータが十分に多い場合の値が、95 %の確からしさで入る範囲。",
    ),
    "means accuracy": (
        "share of the examples that get the right label.",
        "正しいラベルが付いた割合。",
    ),
    "means macro_f1": (
        "mean of the labels' F1: a rare label counts as much as a frequent one.",
        "全ラベルのF1の平均。件数の少ないラベルも同じ重みで数えます。",
    ),
    "means micro_f1": (
        "F1 of all labels of all examples, counted together.",
        "すべてのラベルをまとめて数えたF1。",
    ),
    "means precision": (
        "of everything that gets this label from the model, the share that is right.",
        "モデルがそのラベルを付けたもののうち、正しい割合。",
    ),
    "means recall": (
        "of everything that has this label in the data, the share that the model finds.",
        "データでそのラベルが付いたもののうち、モデルが見つけた割合。",
    ),
    "means f1": (
        "harmonic mean of precision and recall; it is high only if both are.",
        "適合率と再現率の調和平均。両方が高いときだけ高くなります。",
    ),
    "means entity_f1": (
        "F1 of spans; a span is right if its label and both of its ends are.",
        "スパンのF1。ラベルと両端がすべて一致したものを正解とします。",
    ),
    "means exact_match": (
        "share of the examples that are answered exactly as expected.",
        "正解と完全に一致した割合。",
    ),
    "means calibration_error": (
        "how far the probabilities are from the share of right answers, on average. At 0 %, nine "
        "of ten answers with a probability of 90 % are right.",
        "モデルの確率と実際の正解率との差の平均。0 %なら、確率90 %の回答は10件中9件が正解です。",
    ),
    "means log_loss": (
        "how improbable the model finds the right labels. 0 is best; confident mistakes cost most.",
        "正しいラベルに低い確率を付けるほど大きくなる値。0が最良です。",
    ),
    "means bleu": (
        "words and sequences of words in common with the expected text, from 0 to 100.",
        "正解と共通する単語や語の並びの多さ（0〜100）。",
    ),
    "means chrf": (
        "sequences of characters in common with the expected text, from 0 to 100.",
        "正解と共通する文字の並びの多さ（0〜100）。",
    ),
    "means token_f1": (
        "F1 of the words in common with the expected text.",
        "正解と共通する語のF1。",
    ),
    "means perplexity": (
        "how hard a token is to predict: as hard as a choice among this many equally "
        "probable tokens. 1 is best.",
        "次のトークンの予測の難しさを、同じ確率の候補の数で表した値。1が最良です。",
    ),
    "means bits_per_byte": (
        "bits that the model needs to encode a byte of text; a plain file needs 8.",
        "テキスト1バイトを表すのに必要なビット数。圧縮しないファイルは8です。",
    ),
    "means exact_calls": (
        "share of the requests with the right function and all the right arguments.",
        "関数も、すべての引数も正しい割合。",
    ),
    "means preferred": (
        "share of the pairs in which the model finds the chosen answer more probable.",
        "選ばれた回答のほうに高い確率を付けた割合。",
    ),
    "means found": (
        "share of the first texts whose nearest second text is their own partner.",
        "文1に最も近い文2が、対になる文2だった割合。",
    ),
    "means mean_reciprocal_rank": (
        "mean of 1 / rank of the right text: 1 if it always comes first.",
        "正解の順位の逆数の平均。常に1位なら1です。",
    ),
    "means spearman": (
        "agreement of the model's order with the order in the data: 1 for the same order, 0 for "
        "no relation, -1 for the reverse.",
        "モデルの値による順位と、データの順位との一致の度合い。同じ順なら1、無関係なら0、逆順なら-1。",
    ),
    "means mae": (
        "mean difference between the prediction and the number in the data, in the data's unit.",
        "予測値とデータの値の差の絶対値の平均（データと同じ単位）。",
    ),
    "means r2": (
        "1 if every prediction is right, 0 if the predictions are no better than the mean of the "
        "data.",
        "すべて的中すれば1、常に平均を答えるのと同程度なら0。",
    ),
    # Mistakes.
    "mistakes note": (
        "The wrong predictions with the highest probability. Often the label in the data is wrong, "
        "or training lacks this kind of example.",
        "モデルが高い確信度で誤った例です。データのラベルの誤りや、学習データに不足している種類の"
        "例であることがよくあります。",
    ),
    "words note": (
        "Orange words support the predicted label, dotted words oppose it, measured by the change "
        "of the probability when the word is removed.",
        "オレンジ色の語は予測したラベルを支持し、点線の語は反対に働きました。各語を取り除いたときの"
        "確率の変化を測っています。",
    ),
    "spans note": (
        "Top: the spans of the data. Bottom: those of the model. A dashed frame marks a span that "
        "only one of them has. Each colour is a label.",
        "上がデータのスパン、下がモデルのスパンです。破線の枠は片方だけにあるスパンで、色はラベルを"
        "表します。",
    ),
    "in data": ("data", "データ"),
    "by model": ("model", "モデル"),
    "no mistakes": (
        "All held-out examples were labelled right.",
        "検証用データに誤りはありませんでした。",
    ),
    "predicted": ("predicted", "予測"),
    "expected label": ("label in the data", "データのラベル"),
    "mattered": ("mattered most", "影響の大きい語"),
    "without": ("{points} points without it", "除くと{points}ポイント"),
    "scatter": (
        "Predicted number (up) against the number in the data",
        "予測値（縦）とデータの値（横）",
    ),
    "residuals": (
        "Error (up), predicted minus true, against the predicted number",
        "誤差（縦、予測値－データの値）と予測値（横）",
    ),
    "true number": ("number in the data", "データの値"),
    "predicted number": ("predicted number", "予測値"),
    "equal line": ("predicted = true", "予測値＝データの値"),
    "zero line": ("no error", "誤差なし"),
    "errors note": (
        "The predictions that are farthest from the data. Often the number in the data is wrong, "
        "or training lacks this kind of example.",
        "予測値がデータの値から最も離れた例です。データの値の誤りや、学習データに不足している種類の"
        "例であることがよくあります。",
    ),
    "number words note": (
        "Orange words raise the prediction, dotted words lower it, measured by the change of the "
        "prediction when the word is removed.",
        "オレンジ色の語は予測値を上げ、点線の語は下げました。各語を取り除いたときの予測値の変化を"
        "測っています。",
    ),
    "without number": ("{change} without it", "除くと{change}"),
    "mistake picture": (
        "Image labelled {label}, predicted {predicted}",
        "ラベル{label}の画像（予測：{predicted}）",
    ),
    "gone": ("The image is no longer there.", "画像ファイルが見つかりません。"),
    "all mistakes": ("All of them are in {file}.", "一覧は {file} にあります。"),
    # Samples.
    "samples note": (
        "The model's outputs for held-out texts, and the expected ones.",
        "検証用テキストに対する出力と正解です。",
    ),
    "continuations note": (
        "The model's continuations of held-out texts.",
        "検証用テキストの続きとして生成した文です。",
    ),
    "pairs note": (
        "For each first text, the nearest of all held-out second texts.",
        "各文1に対して、検証用データの文2のうち最も近いものです。",
    ),
    "rated note": (
        "The cosine of each held-out pair, and its score in the data.",
        "検証用データの各組のコサイン類似度と、データに付けられた値です。",
    ),
    "input": ("input", "入力"),
    "output": ("output", "出力"),
    "expected": ("expected", "正解"),
    "nearest": ("nearest", "最も近い文"),
    "rank": ("rank of the right one", "正解の順位"),
    "first": ("first text", "文1"),
    "second": ("second text", "文2"),
    "cosine": ("cosine", "コサイン類似度"),
    "rating": ("score in the data", "データの値"),
    "same": ("as expected", "一致"),
    "empty": ("(nothing)", "（空）"),
    "sample of": (
        "{shown} of {whole} are shown; all are in {file}.",
        "{whole}件中{shown}件を表示（全件は {file}）。",
    ),
    # Exports.
    "exports caption": (
        "The model in each file format, tried on the same {count} held-out examples, one at a time",
        "各形式のファイルの比較（同じ検証用データ{count}件を1件ずつ処理）",
    ),
    "exports caption untimed": ("The files of the model", "モデルのファイル"),
    "file": ("file", "ファイル"),
    "size": ("size", "サイズ"),
    "milliseconds": ("milliseconds per example", "1件あたりのミリ秒"),
    "change": ("change", "変化"),
    "change interval": ("95 %: {low} to {high}", "95 %信頼区間 {low}〜{high}"),
    "agreement": ("compared with Keras", "Kerasとの比較"),
    "equal": ("{part} of {whole} equal", "{whole}件中{part}件が一致"),
    "apart": ("at most {number} apart", "差は最大{number}"),
    "near": ("cosine at least {number}", "コサイン{number}以上"),
    "removed": ("removed: {reason}", "削除済み：{reason}"),
    "trained model": ("Keras (trained model)", "Keras（学習したモデル）"),
    "points": ("{number} points", "{number}ポイント"),
    "processor": ("Measured on {processor}.", "測定環境：{processor}"),
    # Settings.
    "replay": ("This command repeats the run:", "同じ学習を再実行するコマンド："),
    "settings caption": ("All settings", "すべての設定"),
    "further settings": ("Further settings", "設定の続き"),
    "setting": ("setting", "項目"),
    "value": ("value", "値"),
    "default": ("default", "既定値"),
    "none": ("none", "なし"),
    "yes": ("yes", "はい"),
    "no": ("no", "いいえ"),
    # Use.
    "shell": ("In the shell", "シェルで"),
    "python": ("In Python, without TensorFlow", "Pythonで（TensorFlow不要）"),
    "elsewhere": (
        "On another machine: copy the bundle's folder, then",
        "別のマシンで：バンドルのフォルダをコピーして",
    ),
    "base": (
        "This model is a base: fine-tune it for a task.",
        "これはベースモデルです。タスクに合わせてファインチューニングしてください。",
    ),
    "no bundle": ("This run saved no model.", "この学習ではモデルが保存されていません。"),
    "example text": ("I love cats.", "猫が大好きです。"),
    "footer": ("Made by tfx-transformer.", "tfx-transformer で作成。"),
    # The list of runs.
    "runs": ("Runs", "学習記録の一覧"),
    "runs caption": ("The runs in this folder, newest first", "このフォルダの学習記録（新しい順）"),
    "no runs": ("There are no runs in this folder.", "このフォルダに学習の記録はありません。"),
    "name": ("name", "名前"),
    "recipe": ("recipe", "レシピ"),
    "date": ("date", "日付"),
    "minutes": ("minutes", "分"),
    "unknown": ("unknown", "不明"),
    # Measures.
    "accuracy": ("accuracy", "正解率"),
    "macro_f1": ("macro-F1", "マクロF1"),
    "micro_f1": ("micro-F1", "マイクロF1"),
    "entity_f1": ("entity F1", "固有表現のF1"),
    "exact_match": ("exact match", "完全一致率"),
    "calibration_error": ("calibration error", "較正誤差"),
    "log_loss": ("log loss", "対数損失"),
    "bleu": ("BLEU", "BLEU"),
    "chrf": ("chrF", "chrF"),
    "token_f1": ("token F1", "トークンF1"),
    "perplexity": ("perplexity", "パープレキシティ"),
    "bits_per_byte": ("bits per byte", "1バイトあたりのビット数"),
    "exact_calls": ("exact calls", "呼び出しの完全一致率"),
    "right_tools": ("right tool", "ツールの正解率"),
    "valid_calls": ("valid calls", "有効な呼び出しの割合"),
    "preferred": ("chosen answer preferred", "選ばれた回答のほうを好む割合"),
    "found": ("retrieval accuracy", "検索の正解率"),
    "mean_reciprocal_rank": ("mean reciprocal rank", "平均逆順位（MRR）"),
    "spearman": ("Spearman correlation", "スピアマンの順位相関"),
    "mae": ("mean absolute error", "平均絶対誤差"),
    "r2": ("R²", "決定係数R²"),
    "the mean of the training rows": ("the mean of the training rows", "学習データの平均"),
    "TF-IDF + ridge regression": ("TF-IDF + ridge regression", "TF-IDF＋リッジ回帰"),
    "token_accuracy": ("token accuracy", "トークン正解率"),
    # Baselines, as records name them.
    "the base": ("the base", "元のモデル"),
    "the teacher": ("the teacher", "教師モデル"),
    "the most frequent call": ("the most frequent call", "常に最多の呼び出し"),
    "the most similar row (TF-IDF)": (
        "the call of the most similar row (TF-IDF)",
        "最も似た行の呼び出し（TF-IDF）",
    ),
    "TF-IDF cosines": ("TF-IDF cosines", "TF-IDFのコサイン類似度"),
    "always the most frequent label": (
        "always the most frequent label",
        "常に最多のラベル",
    ),
    "TF-IDF + logistic regression": (
        "TF-IDF + logistic regression",
        "TF-IDF＋ロジスティック回帰",
    ),
    "dictionary of the training's spans": (
        "dictionary of the training's spans",
        "学習データの語句の辞書",
    ),
    "logistic regression of words": (
        "logistic regression of words",
        "単語のロジスティック回帰",
    ),
    "logistic regression on pixels": (
        "logistic regression on pixels",
        "ピクセル値のロジスティック回帰",
    ),
    "logistic regression on edges and colours": (
        "logistic regression on edges and colours",
        "輪郭と色のロジスティック回帰",
    ),
}
Say = Callable[..., str]


def is_known(name: str) -> bool:
    """Return True if a text has this name."""
    return name in _TEXTS


def speaker(language: str) -> Say:
    """Return a function (name, **fields) -> text in a language. A name without a text is returned
    as it is, with spaces for "_".

    Args:
        language: "en" or "ja".

    Raises:
        ValueError: it is another language.
    """
    place = LANGUAGES.index(language)

    def say(name: str, /, **fields: object) -> str:
        text = _TEXTS[name][place] if name in _TEXTS else name.replace("_", " ")
        return text.format(**fields) if fields else text

    return say
