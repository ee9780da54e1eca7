"""Pictures of a classifier: what is drawn equals what was given, and all of it can be read."""

import os

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.image import imread  # noqa: E402

from tfx_transformer import pictures  # noqa: E402
from tfx_transformer.pictures import canvas, labels  # noqa: E402

# A missing glyph, a colliding layout or a deprecated call is a warning: here each is a failure.
pytestmark = pytest.mark.filterwarnings("error")

AUTHORS = ["江戸川乱歩", "夏目漱石", "宮沢賢治"]
TRUTH = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0])


def words(axes):
    """The texts in the cells by (row, column)."""
    return {text.get_position()[::-1]: text.get_text() for text in axes.texts}


def laid_out(truth, predicted, names):
    with canvas.style():
        figure = labels._confusion_figure(truth, predicted, names)
        figure.draw_without_rendering()
    return figure


def overlapping(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


# Confusion matrix


def test_each_cell_says_its_count_and_its_share_of_the_row():
    (axes,) = labels._confusion_figure(TRUTH, PREDICTED, AUTHORS).axes
    assert words(axes) == {
        (0, 0): "2\n67 %",
        (0, 1): "1\n33 %",
        (1, 1): "2\n100 %",
        (2, 0): "1\n17 %",
        (2, 1): "1\n17 %",
        (2, 2): "4\n67 %",
    }
    assert axes.images[0].origin == "upper"  # the first label is the top row
    assert [label.get_text() for label in axes.get_xticklabels()] == AUTHORS
    assert [label.get_text() for label in axes.get_yticklabels()] == AUTHORS
    title = axes.get_title(loc="left") + axes.get_title()
    assert title == "Accuracy 72.7 %: 8 of 11"


def test_right_is_blue_and_wrong_is_orange_the_darker_the_larger_the_share():
    (axes,) = labels._confusion_figure(TRUTH, PREDICTED, AUTHORS).axes
    red, _, blue, _ = np.moveaxis(axes.images[0].get_array(), -1, 0)
    right = np.eye(3, dtype=bool)
    assert (blue > red)[right].all()
    empty = metrics.confusion_matrix(TRUTH, PREDICTED) == 0
    assert (red > blue)[~right & ~empty].all()
    assert (axes.images[0].get_array()[empty] == 1).all()
    assert red[1, 1] < red[0, 0] < 1  # 100 % and 67 %
    assert blue[0, 1] < blue[2, 0] < 1  # 33 % and 17 %


@given(st.integers(2, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), min_size=1))
@example(2, [(0, 1)])
@settings(max_examples=15)
def test_the_counts_are_scikit_learns_and_the_diagonal_always_shows(classes, pairs):
    truth, predicted = np.array(pairs).T % classes
    names = [str(number) for number in range(classes)]
    (axes,) = labels._confusion_figure(truth, predicted, names).axes
    counts = metrics.confusion_matrix(truth, predicted, labels=range(classes))
    shown = {cell: int(text.split("\n")[0]) for cell, text in words(axes).items()}
    cells = {tuple(cell) for cell in np.argwhere(counts)} | {(n, n) for n in range(classes)}
    assert shown == {cell: counts[cell] for cell in cells}
    assert len(axes.patches) == classes  # a frame around each cell of the diagonal


def test_a_share_is_never_rounded_to_all_or_none():
    truth = np.zeros(1000, dtype=int)
    predicted = np.where(np.arange(1000) < 3, 1, 0)
    (axes,) = labels._confusion_figure(truth, predicted, ["a", "b"]).axes
    assert words(axes) == {(0, 0): "997\n> 99 %", (0, 1): "3\n< 1 %", (1, 1): "0\n0 %"}


@pytest.mark.slow(but=["long-2", "long-23", "middle-12"])
@pytest.mark.parametrize("classes", [2, 3, 12, 23, 77])
@pytest.mark.parametrize(
    "name",
    ["cat {}", "some cat {}", "請求書に関するお問い合わせ・返金のご依頼 {}"],
    ids=["short", "middle", "long"],
)
def test_labels_never_overlap_and_stay_on_the_page(classes, name):
    truth = np.arange(classes * 11) % classes
    figure = laid_out(truth, np.zeros_like(truth), [name.format(n) for n in range(classes)])
    (axes,) = figure.axes
    for side in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert len({label.get_text() for label in side}) == classes
        assert not overlapping(side)
    assert not overlapping(axes.texts)
    page, box = figure.bbox, axes.get_tightbbox()
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1


@pytest.mark.slow(but=["2", "40"])
@pytest.mark.parametrize("classes", [2, 6, 12, 40, 77])
def test_numbers_fit_their_cells_at_a_size_that_can_be_read(classes):
    truth = np.repeat(np.arange(classes), 613)
    names = [f"label_{n}" for n in range(classes)]
    figure = laid_out(truth, (truth + 1) % classes, names)
    (axes,) = figure.axes
    cell = axes.bbox.width / classes
    assert len(axes.texts) == 2 * classes
    for text in axes.texts:
        assert text.get_window_extent().width <= 1.02 * cell
        assert text.get_fontsize() >= 4
    assert (figure.get_size_inches() <= canvas.LARGEST).all()


def test_five_hundred_labels_are_colours_and_every_so_many_names():
    truth = np.arange(1000) % 500
    figure = laid_out(truth, truth, [f"label {n}" for n in range(500)])
    (axes,) = figure.axes
    assert not axes.texts
    assert 50 < len(axes.get_yticks()) < 250
    assert not overlapping(axes.get_yticklabels())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("card_payment_wrong_rate", "card_payment_wrong_rate"),
        ("x" * 27, "x" * 27),
        ("a" * 20 + "b" * 20, "a" * 13 + "…" + "b" * 13),
        ("犬" * 17, "犬" * 17),
        ("犬" * 9 + "猫" * 9, "犬" * 8 + "…" + "猫" * 8),
    ],
)
def test_long_labels_lose_their_middle(name, label):
    assert labels._shorten(name) == label


def test_numbers_have_contrast_to_their_cells():
    """At least 4:1, by the formula of the Web Content Accessibility Guidelines 2.1."""

    def luminance(color):
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in to_rgb(color)
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    rows = np.arange(20)  # row n: n + 1 right, 20 - n wrong
    truth = np.repeat(rows, 21)
    place = np.tile(np.arange(21), 20)
    (axes,) = labels._confusion_figure(
        truth, np.where(place <= truth, truth, (truth + 1) % 20), [str(n) for n in rows]
    ).axes
    assert len(axes.texts) == 40
    for text in axes.texts:
        column, row = text.get_position()
        cell = axes.images[0].get_array()[row, column]
        dark, light = sorted([luminance(cell), luminance(text.get_color())])
        assert (light + 0.05) / (dark + 0.05) >= 4


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([], [], r"truth of shape \(0,\)"),
        ([0, 1], [0], r"truth of shape \(2,\), predicted of \(1,\)"),
        ([[0, 1]], [[0, 1]], r"truth of shape \(1, 2\)"),
        ([0, 2], [0, 1], "ids from 0 to 2 do not fit 2 names"),
        ([0, 1], [0, -1], "ids from -1 to 1 do not fit 2 names"),
    ],
)
def test_what_is_no_matrix_is_refused_and_named(tmp_path, truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        pictures.confusion_matrix(tmp_path / "matrix.png", truth, predicted, ["a", "b"])
    assert os.listdir(tmp_path) == []


# Calibration

# Confidences 0.9 and 0.8 right, 0.8 and 0.5 wrong.
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.5, 0.5]])
RIGHT = np.array([0, 0, 1, 1])


def test_bars_gaps_and_counts_are_those_of_the_bins():
    above, below = labels._calibration_figure(PROBABILITIES, RIGHT).axes
    bars = {round(bar.get_x() * 15): bar.get_height() for bar in above.patches}
    assert bars == {7: 0, 11: 0.5, 13: 1}
    gaps = [path.vertices for path in above.collections[0].get_paths()]
    np.testing.assert_allclose(
        gaps, [[[0.5, 0], [0.5, 0.5]], [[0.8, 0.5], [0.8, 0.8]], [[0.9, 1], [0.9, 0.9]]]
    )
    assert [text.get_text() for text in below.texts] == list("000000010002010")
    assert [bar.get_height() for bar in below.patches] == [int(n) for n in "000000010002010"]
    error = (0.1 + 2 * 0.3 + 0.5) / 4
    titles = [above.get_title(loc=side) for side in ("left", "center", "right")]
    assert f"Calibration error {100 * error:.1f} % (ECE)" in titles
    assert "mean confidence 75.0 %, accuracy 50.0 %" in titles


@pytest.mark.slow(but=["1", "123457"])
@pytest.mark.parametrize("count", [1, 1997, 123_457])
def test_the_counts_of_the_bins_never_overlap(count):
    confidence = (np.arange(1, 16) / 15).repeat(count)
    probabilities = np.stack([confidence, np.zeros_like(confidence)], axis=1)
    with canvas.style():
        figure = labels._calibration_figure(probabilities, np.zeros(len(confidence), dtype=int))
        figure.draw_without_rendering()
    assert not overlapping(figure.axes[1].texts)


def test_logits_are_no_calibration(tmp_path):
    with pytest.raises(ValueError, match="not logits"):
        pictures.calibration(tmp_path / "calibration.png", [[3.0, -1.0]], [0])
    assert os.listdir(tmp_path) == []


# Files


@pytest.mark.parametrize(
    ("draw", "arguments", "shape"),
    [
        (pictures.confusion_matrix, (TRUTH, PREDICTED, AUTHORS), (675, 1050)),
        (pictures.confusion_matrix, (TRUTH, TRUTH * 0, AUTHORS), (675, 1050)),
        (pictures.confusion_matrix, ([0], [1], ["$x$", "한\x00"]), (675, 1050)),
        (pictures.calibration, (PROBABILITIES, RIGHT), (825, 1050)),
        (pictures.calibration, (np.eye(3)[[0, 0]], [0, 1]), (825, 1050)),
    ],
)
def test_writes_one_png_and_returns_its_path(tmp_path, draw, arguments, shape):
    path = draw(str(tmp_path / "picture.png"), *arguments).path
    assert path == tmp_path / "picture.png"
    assert os.listdir(tmp_path) == ["picture.png"]
    pixels = imread(path)
    assert pixels.shape == (*shape, 4)
    assert pixels.min() < 0.5  # more than an empty page
