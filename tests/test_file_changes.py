"""The change of the score by quantization: computed by hand, in the list of files and the card."""

import numpy as np
import pytest

from tfx_transformer import bundle, model_card, runtime
from tfx_transformer.evaluation.comparison import Comparison, compare_labels
from tfx_transformer.evaluation.rounding import Choice
from tfx_transformer.training import trials
from tfx_transformer.training.trials import Trial, compare_vectors, compare_written, cost_of_files

TRUTH = np.array([0, 1, 0, 1, 1, 0, 0])


def probabilities(labels):
    return [np.eye(2)[label] for label in labels]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A bundle with four files, whose answers are known."""
    answers = {
        "float32": [0, 1, 0, 1, 1, 0, 1],  # 6 of 7
        "int8": [0, 1, 0, 1, 1, 0, 0],  # 7 of 7
        "int4": [0, 0, 0, 1, 1, 1, 1],  # 4 of 7
    }
    for variant in (*answers, "full_int8"):
        (tmp_path / bundle.LITERT[variant]).write_bytes(b"file")

    def load(path, variant):
        if variant == "full_int8":
            raise RuntimeError("another chip")
        return dict(enumerate(probabilities(answers[variant])))

    monkeypatch.setattr(runtime, "load", load)
    monkeypatch.setattr(trials, "runtime", runtime)
    trial = Trial(
        dict(enumerate(probabilities(TRUTH))),
        [*range(7)],
        lambda model, inputs: [model[one] for one in inputs],
        lambda found: {"accuracy": np.mean(np.argmax(found, axis=1) == TRUTH[: len(found)])},
        lambda old, new: compare_labels(np.stack(old), np.stack(new), TRUTH[: len(old)]),
    )
    return {row["name"]: row for row in cost_of_files(tmp_path, trial, {})}


def test_quantized_files_are_compared_with_the_float32_file(files):
    assert "change" not in files["Keras"]
    assert "change" not in files["TFLite float32"]
    assert "change" not in files["TFLite full_int8"]
    better, worse = (files[f"TFLite {name}"]["change"] for name in ("int8", "int4"))
    assert (better["old"], better["new"]) == pytest.approx((6 / 7, 1))
    assert (worse["old"], worse["new"]) == pytest.approx((6 / 7, 4 / 7))
    assert worse["count"] == 7
    low, high = worse["difference"]
    assert low < 4 / 7 - 6 / 7 < high, "paired, and around the difference"


def test_the_card_shows_them(files, tmp_path):
    costs = [
        {name: row[name] for name in ("file", "milliseconds", "change") if name in row}
        for row in files.values()
    ]
    card = model_card._files({"costs": costs}, tmp_path)
    lines = {line.split(" | ")[0].strip("| "): line for line in card.splitlines()[2:]}
    assert lines["file"].endswith("| change against the float32 file |")
    assert "accuracy -28.6 points (95 %: " in lines["model.int4.tflite"]
    assert "accuracy +14.3 points (95 %: " in lines["model.int8.tflite"]
    assert lines["model.tflite"].endswith("|  |")
    assert len({line.count("|") for line in lines.values()}) == 1
    assert "4-bit weights" not in card
    choice = Choice("scales", {"nearest": 0.3, "scales": 0.2}, 12, 4)
    card = model_card._files({"costs": costs, "int4": choice.to_dict()}, tmp_path)
    assert card.endswith(f"|\n\n{choice.sentence()}")
    for row in costs:
        row["change"] = {"measure": ["another version"], "difference": "wrote it"}
    assert "change" not in model_card._files({"costs": costs}, tmp_path)


def test_texts_by_bleu_or_by_token_f1():
    references = ["the cat sees a dog"] * 3 + ["a dog"]
    compare = compare_written({"token_f1": 1.0}, references)
    found = compare(["the cat sees a dog"] * 3, ["the cat sees a dog", "", "the cat"])
    assert found.measure == "token_f1"
    # Articles do not count.
    assert (found.old, found.new) == pytest.approx((1, (1 + 0 + 0.5) / 3))
    by_bleu = compare_written({"bleu": 100.0, "bleu_tokenize": "13a"}, references)
    assert by_bleu(references[:3], references[:3]).new == pytest.approx(100)
    assert compare_written({"chrf": 1.0}, []) is None


def test_vectors_by_retrieval_or_by_ratings():
    axes = np.eye(3)
    same = [(axis, axis) for axis in axes]
    swapped = [(axes[0], axes[1]), (axes[1], axes[0]), (axes[2], axes[2])]
    found = compare_vectors(None, same, swapped)
    assert (found.measure, found.old, found.new) == ("found", 1.0, pytest.approx(1 / 3))
    angles = np.array([0.1, 0.5, 0.9, 1.3, 1.5])
    pairs = [(np.array([1.0, 0]), np.array([np.cos(x), np.sin(x)])) for x in angles]
    rated = compare_vectors([5, 4, 3, 2, 1], pairs, pairs[::-1])
    assert (rated.old, rated.new) == pytest.approx((1, -1))


def test_a_change_in_words():
    low_high = (-0.019, 0.009)
    change = Comparison("accuracy", 0.8, 0.795, None, None, low_high, 200, "row")
    assert change.change("en") == "accuracy -0.5 points (95 %: -1.9 to +0.9)"
    assert Comparison.from_dict(change.to_dict()).change("en") == change.change("en")
    none = Comparison("accuracy", 0.8, 0.7999, None, None, (-0.0004, 0.0), 200, "row")
    assert none.change("en") == "accuracy +0.0 points (95 %: +0.0 to +0.0)", "not -0.0"
    alone = Comparison("mae", 12.0, 12.5, None, None, None, 5, "row")
    assert alone.change("en") == "mean absolute error +0.500"


def test_a_model_is_timed_but_not_asked_for_answers_that_are_known(tmp_path, monkeypatch):
    (tmp_path / bundle.LITERT["float32"]).write_bytes(b"file")
    monkeypatch.setattr(runtime, "load", lambda path, variant: "file")
    asked = []

    def answer(model, inputs):
        asked.append((model, len(inputs)))
        return list(inputs)

    trial = Trial("model", [*range(20)], answer, lambda found: {"mean": float(np.mean(found))})
    for known, mean, calls in ((None, 9.5, [20] + 11 * [1]), ([3.0] * 20, 3.0, 11 * [1])):
        asked.clear()
        first, *_ = cost_of_files(tmp_path, trial._replace(known=known), {})
        assert (first["scores"], first["examples"]) == ({"mean": mean}, 20)
        assert [count for model, count in asked if model == "model"] == calls
