"""The records of classifiers and embedders, with models whose answers are written down."""

import json
import types

import keras
import numpy as np
import pandas
import pytest
from matplotlib.image import imread
from tiny_models import tiny_encoder

from tfx_transformer import pictures
from tfx_transformer.data import LabelledTexts, SentencePairs
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.prediction.classification import Labels
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import ClassifierRun, EmbedderRun, Progress, Run, TimeLimit
from tfx_transformer.training.callbacks import BestWeights, HeldOutScore, WorthSaving

ROWS = LabelledTexts(
    [("a cat", "one"), ("a dog", ""), ("a", "bird"), ("a cow", "two")],
    [("x",), ("y",), ("y",), ("x",)],
    [2, 3, 4, 5],
    path="held.csv",
    columns={"text": "animal,count", "label": "kind"},
)
TRAIN = LabelledTexts([("cat", ""), ("dog", ""), ("bird", "")], [("x",), ("y",), ("y",)], [2, 3, 4])
# Right, right, wrong, wrong.
ANSWERS = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], "float32")


@pytest.fixture
def drawn(monkeypatch):
    """The tokenizers and texts that attention was to be drawn of."""
    asked = []
    monkeypatch.setattr(Run, "draw_self_attention", lambda _, *given: asked.append(given[1:]))
    return asked


def model_with(**history):
    """What `report` reads of a model after `fit`."""
    return types.SimpleNamespace(history=types.SimpleNamespace(history=history))


def classifying(answers, multi_label=False):
    """A classifier that answers so whatever it is asked."""
    return types.SimpleNamespace(
        labels=Labels(["x", "y"], multi_label),
        probabilities=lambda _: np.array(answers),
        tokenizer="words",
    )


def after_epoch(callback):
    """What a callback adds to the logs of an epoch."""
    logs = {}
    callback.on_epoch_end(0, logs)
    return logs


def one(callbacks, kind):
    (found,) = [callback for callback in callbacks if isinstance(callback, kind)]
    return found


# Classifiers


def test_a_classifier_is_watched_by_macro_f1(tmp_path):
    run = ClassifierRun("r", {}, root=tmp_path)
    run.tokens_per_epoch = 7
    watch = run.watch(classifying(ANSWERS), ROWS, patience=3)
    assert after_epoch(one(watch, HeldOutScore)) == {"val_macro_f1": 0.5}
    stopping, progress = one(watch, keras.callbacks.EarlyStopping), one(watch, Progress)
    assert (stopping.monitor, stopping.mode, stopping.patience) == ("val_macro_f1", "max", 3)
    assert stopping.restore_best_weights
    assert (progress.tokens_per_epoch, progress.unit) == (7, "tokens")
    assert isinstance(watch[-1], WorthSaving)
    # The score must be known before it is shown and judged.
    kinds = [type(callback) for callback in watch]
    assert kinds == [HeldOutScore, Progress, BestWeights, WorthSaving]


def test_the_average_is_what_is_judged(tmp_path):
    run = ClassifierRun("r", {}, root=tmp_path)
    watch = run.watch(classifying(ANSWERS), ROWS, minutes=2.5, average=True)
    kinds = [type(callback) for callback in watch]
    assert kinds[0] is keras.callbacks.SwapEMAWeights and watch[0].swap_on_epoch
    assert kinds.index(HeldOutScore) < kinds.index(TimeLimit) < kinds.index(WorthSaving)
    assert one(watch, TimeLimit).minutes == 2.5


def test_a_model_that_diverges_is_worth_nothing(tmp_path):
    run = ClassifierRun("r", {}, root=tmp_path)
    watch = run.watch(classifying(np.full((4, 2), np.nan, "float32")), ROWS)
    assert after_epoch(one(watch, HeldOutScore)) == {"val_macro_f1": 0}


def test_a_report_by_hand(tmp_path, capsys, drawn):
    run = ClassifierRun("r", {}, root=tmp_path)
    run.file = "my.csv"
    run.watch(classifying(ANSWERS), ROWS)
    history = {
        "loss": [3.0, 2.0, 1.0],
        "val_loss": [2.0, 1.5, 1.0],
        "val_macro_f1": [0.1, 0.5, 0.3],
    }
    result = run.report(model_with(**history), TRAIN)
    training = result["training"]
    assert (training["epochs"], training["best_epoch"], training["val_loss"]) == (3, 2, 1.5)
    scores = result["scores"]
    assert (scores["accuracy"], scores["macro_f1"], scores["count"]) == (0.5, 0.5, 4)
    # |1 - 0.9|, |1 - 0.8|, |0 - 0.6| and |0 - 0.7|, each alone in its bin.
    assert scores["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.7) / 4)
    assert "per_class" not in scores
    assert result["data"] == {"file": "my.csv"} and "example" not in result
    assert (result["text_columns"], result["columns"]) == (2, ["animal", "count"])
    assert drawn == [("words", ROWS.texts)]
    folder = tmp_path / "r"
    mistakes = pandas.read_csv(folder / "mistakes.csv")
    assert mistakes[["input", "label", "predicted"]].values.tolist() == [
        ["a cow | two", "x", "y"],
        ["a | bird", "y", "x"],
    ]
    written = json.loads((folder / "result.json").read_text("utf-8"))
    assert written["per_class"]["x"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "count": 2}
    always, linear = written["baselines"].values()
    assert always == {"label": "y", "accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}
    assert linear.keys() == {"accuracy", "macro_f1"}
    output = capsys.readouterr().out
    assert "the best was epoch 2.\nHeld out: accuracy 50.0 %, macro-F1 50.0 %, " in output
    assert "\n  always the most frequent label: accuracy 50.0 %, macro-F1 33.3 %\n" in output
    assert "\n  TF-IDF + logistic regression:   accuracy " in output


def test_a_report_of_several_labels(tmp_path, capsys, drawn):
    rows = LabelledTexts([("a",), ("bb",), ("c",)], [("x", "y"), (), ("y",)], [2, 3, 4])
    run = ClassifierRun("r", {}, root=tmp_path)
    answers = [[0.9, 0.8], [0.1, 0.6], [0.2, 0.9]]  # one label too many, of the second
    watch = run.watch(classifying(answers, multi_label=True), rows)
    assert after_epoch(one(watch, HeldOutScore)) == {"val_macro_f1": pytest.approx(0.9)}
    result = run.report(model_with(loss=[1.0], val_loss=[1.0], val_macro_f1=[0.9]), rows)
    assert result["scores"] == {
        "micro_f1": pytest.approx(6 / 7),
        "macro_f1": pytest.approx(0.9),
        "exact_match": pytest.approx(2 / 3),
        "count": 3,
    }
    assert json.loads((tmp_path / "r" / "result.json").read_text("utf-8"))["baselines"] == {}
    assert result["text_columns"] == 1 and "example" not in result
    assert "columns" not in result and len(drawn) == 1
    run.close(result)
    left = {path.name for path in (tmp_path / "r").iterdir()}
    written = {"settings.json", "metrics.csv", "loss.png", "classes.csv", "result.json"}
    written |= {"evaluation.json", "run.json", "report.html"}
    assert left == written | {"files.json"}
    assert "all labels right 66.7 %" in capsys.readouterr().out


@pytest.mark.parametrize(("patience", "minutes"), [(0, 0), (3, -1), (3, float("nan"))])
def test_limits_out_of_range(tmp_path, patience, minutes):
    run = ClassifierRun("r", {}, root=tmp_path)
    with pytest.raises(InputError, match=f"patience is {patience} and minutes is {minutes}"):
        run.watch(classifying(ANSWERS), ROWS, patience, minutes)


# Embedders


def turned(*degrees):
    """Unit vectors at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")


def embedding(**vectors):
    """An embedder of these texts."""
    return types.SimpleNamespace(
        embed=lambda texts, prompt: np.stack([vectors[t] for t in texts]),
        tokenizer="words",
        config=types.SimpleNamespace(prompt_name=lambda side: None),
    )


def unscored(first, second):
    return SentencePairs(list(first), list(second), None, list(range(2, 2 + len(first))))


def test_ranks_by_hand(tmp_path, drawn):
    # a finds A; b finds C before B; c finds A and B before C.
    vectors = dict(zip("abcABC", turned(0, 50, 10, 5, 20, 45), strict=True))
    run = EmbedderRun("r", {}, root=tmp_path)
    watch = run.watch(embedding(**vectors), unscored("abc", "ABC"), patience=4)
    expected = {"found": 1 / 3, "mean_reciprocal_rank": (1 + 1 / 2 + 1 / 3) / 3}
    assert run.scores() == pytest.approx(expected)
    assert after_epoch(one(watch, HeldOutScore)) == {"val_found": pytest.approx(1 / 3)}
    stopping = one(watch, keras.callbacks.EarlyStopping)
    assert (stopping.monitor, stopping.mode, stopping.patience) == ("val_found", "max", 4)
    assert stopping.restore_best_weights and one(watch, Progress).unit == "tokens"
    result = run.report(model_with(loss=[2.0, 1.0], val_loss=[2.0, 1.0], val_found=[0.6, 0.2]))
    assert result["training"]["best_epoch"] == 1
    assert result["scores"] == {"found": 0.3333, "mean_reciprocal_rank": 0.6111}
    assert drawn == [("words", list("abc"))] and "example" not in result


def test_of_equal_texts_none_is_nearer(tmp_path):
    vectors = dict(zip("abAB", turned(0, 10, 5, 5), strict=True))
    run = EmbedderRun("r", {}, root=tmp_path)
    run.watch(embedding(**vectors), unscored("ab", "AB"))
    assert run.scores() == {"found": 1, "mean_reciprocal_rank": 1}


def test_vectors_that_are_no_numbers_find_nothing(tmp_path):
    vectors = dict.fromkeys("abAB", np.full(2, np.nan))
    run = EmbedderRun("r", {}, root=tmp_path)
    run.watch(embedding(**vectors), unscored("ab", "AB"))
    assert run.scores()["found"] == 0


def test_correlation_by_hand(tmp_path):
    # Cosines fall with the angle: 10, 20, 30, 40 degrees; the scores put the last two the wrong
    # way round: 1 - 6 (0 + 0 + 1 + 1) / (4 (16 - 1)).
    vectors = dict(zip("abcdABCD", turned(0, 0, 0, 0, 10, 20, 30, 40), strict=True))
    pairs = SentencePairs(list("abcd"), list("ABCD"), [1.0, 0.8, 0.1, 0.3], [2, 3, 4, 5])
    run = EmbedderRun("r", {}, root=tmp_path)
    watch = run.watch(embedding(**vectors), pairs, minutes=1)
    assert run.scores() == {"spearman": pytest.approx(0.8)}
    assert one(watch, keras.callbacks.EarlyStopping).monitor == "val_spearman"
    assert one(watch, TimeLimit).minutes == 1


def test_equal_scores_rank_nothing(tmp_path):
    pairs = SentencePairs(["a", "b"], ["A", "B"], [0.5, 0.5], [2, 3], path="held.csv")
    with pytest.raises(InputError, match=r"^held\.csv: all held-out pairs have the same score"):
        EmbedderRun("r", {}, root=tmp_path).watch(embedding(), pairs)


# Attention


def test_attention_is_drawn_of_a_text_that_fills_the_picture(tmp_path, monkeypatch):
    tokenizer = Tokenizer.train([], 259)  # a token is a byte
    model = tiny_encoder(Classifier, vocabulary_size=259, num_classes=2)
    asked = []
    draw = pictures.self_attention_map
    monkeypatch.setattr(
        pictures, "self_attention_map", lambda *given, **named: asked.append(named) or draw(*given)
    )
    run = ClassifierRun("r", {}, root=tmp_path)
    # Of 2 + 3, 3 + 8 and 3 + 20 tokens, of which the model reads 19.
    rows = [("abc",), ("abcd", "efgh"), ("a" * 10, "b" * 10)]
    run.draw_self_attention(model, tokenizer, rows)
    run.draw_self_attention(model, tokenizer, ["a" * 40, "abc"])
    assert [named["title"] for named in asked] == ["abcd | efgh", "a" * 40]
    assert imread(tmp_path / "r" / "attention.png").min() < 0.5
