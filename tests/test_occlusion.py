"""The words that mattered, of a classifier whose answer is a sum that is known."""

import numpy as np
import pytest

from tfx_transformer.evaluation.occlusion import occlusion

VALUES = {"rain": 0.4, "sun": -0.25, "雨": 0.3}


def probabilities(items):
    """Of the second label: 0.5 and what each word adds."""
    rows = [[item] if isinstance(item, str) else item for item in items]
    assert all(isinstance(text, str) for row in rows for text in row)
    sums = [0.5 + sum(VALUES[w] for w in VALUES for text in row if w in text) for row in rows]
    return np.stack([1 - np.array(sums), np.array(sums)], axis=1)


def test_each_word_has_what_it_adds():
    found = occlusion(probabilities, "No sun,  only rain.", 1)
    assert [(p.text, p.start) for p in found] == [
        ("No", 0),
        ("sun,", 3),
        ("only", 9),
        ("rain.", 14),
    ]
    assert [p.weight for p in found] == pytest.approx([0, -0.25, 0, 0.4])
    against = occlusion(probabilities, "No sun,  only rain.", 0)
    assert [p.weight for p in against] == pytest.approx([0, 0.25, 0, -0.4])


def test_japanese_is_cut_where_the_script_changes():
    found = occlusion(probabilities, "明日はレインコート、雨です", 1)
    assert [p.text for p in found] == ["明日", "は", "レインコート", "、", "雨", "です"]
    assert [p.weight for p in found] == pytest.approx([0, 0, 0, 0, 0.3, 0])


def test_of_a_row_with_several_texts():
    found = occlusion(probabilities, ("the sun", "", "rain"), 1)
    assert [(p.text, p.column) for p in found] == [("the", 0), ("sun", 0), ("rain", 2)]
    assert [p.weight for p in found] == pytest.approx([0, -0.25, 0.4])


@pytest.mark.parametrize("text", ["", "  \n"])
def test_of_nothing(text):
    assert occlusion(probabilities, text, 0) == []


def test_a_long_text_is_cut_into_few_pieces():
    text = " ".join(["word"] * 997 + ["rain"])
    found = occlusion(probabilities, text, 1)
    assert len(found) <= 48
    assert [p.weight for p in found[:-1]] == pytest.approx([0] * (len(found) - 1))
    assert found[-1].text.endswith("rain") and found[-1].weight == pytest.approx(0.4)
    assert " ".join(p.text for p in found) == text
