"""Pictures of vectors and states: what is drawn is what was given, and names can be read."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.image import imread  # noqa: E402
from matplotlib.transforms import Bbox  # noqa: E402

from tfx_transformer import pictures  # noqa: E402
from tfx_transformer.pictures import canvas, states, vectors  # noqa: E402

# A missing glyph, a colliding layout or a deprecated call is a warning: here each is a failure.
pytestmark = pytest.mark.filterwarnings("error")

WORDS = ["cat", "dog", "猫", "犬", "飛行機"]
POINTS = np.array([[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0], [3.0, -1.0], [2.0, 2.0]])
COSINES = np.array([[1.0, 0.5, -0.25], [0.5, 1.0, 0.0], [-0.25, 0.0, 1.0]])
STATES = [np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 3.0], [0.0, 1.0]])]
CACHE = np.array([[[2.0, 0.0], [4.0, 0.0]], [[2.0, 1.0], [4.0, 5.0]]])  # steps, layers, slots
TABLE = [
    {"path": "embedding/embeddings", "norm": 2.0, "euclidean": 1.0, "shape": [4]},
    {"path": "decoder/block_0/attention/query/kernel", "norm": 3.0, "euclidean": 3.0, "shape": [5]},
    {"path": "decoder/block_0/attention/query/bias", "norm": 4.0, "euclidean": 4.0, "shape": [20]},
    {"path": "decoder/block_0/attention_norm/gamma", "norm": 0.0, "euclidean": 1.0, "shape": [7]},
    {"path": "decoder/final_norm/gamma", "norm": 1.0, "euclidean": 0.0, "shape": [1]},
]


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("draw", "arguments"),
    [
        (pictures.map_of_vectors, (POINTS, WORDS, ["English"] * 2 + ["日本語"] * 3, "Map", (1, 0))),
        (pictures.map_of_vectors, (POINTS[:1], ["one"])),
        (pictures.similarity_matrix, (COSINES, WORDS[:3])),
        (pictures.similarity_matrix, (np.zeros((1, 1)), ["猫"])),
        (pictures.states_by_layer, (STATES, ["猫", " cat"])),
        (pictures.cache_growth, (CACHE, CACHE, ["猫", " cat"], "猫 cat")),
        (pictures.weight_changes, (TABLE, "a → b")),
        (pictures.weight_sizes, (TABLE,)),
    ],
)
def test_writes_one_png_and_returns_its_path(tmp_path, draw, arguments):
    path = draw(str(tmp_path / "picture.png"), *arguments).path
    assert path == tmp_path / "picture.png"
    assert os.listdir(tmp_path) == ["picture.png"]
    assert imread(path).min() < 0.5  # more than an empty page


# The map


def drawn_map(points, names, groups=None, title="", share=None):
    with canvas.style():
        figure = vectors._map_figure(points, names, groups, title, share)
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    return figure.axes[0], boxes


def test_points_names_and_axes_are_what_was_given():
    axes, _ = drawn_map(POINTS, WORDS, None, "Words / 単語", (0.61, 0.2))
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), POINTS)
    assert texts(axes) == WORDS
    assert [tuple(text.xy) for text in axes.texts] == [tuple(point) for point in POINTS]
    assert axes.get_xlabel() == "component 1 (61 % of the variance)"
    assert axes.get_ylabel() == "component 2 (20 % of the variance)"
    assert axes.get_title(loc="left") == "Words / 単語"
    assert axes.get_title(loc="right") == ""


def test_near_is_near_in_both_directions():
    axes, _ = drawn_map(POINTS * [5, 1], WORDS)
    a, b, c = axes.transData.transform([[0, 0], [1, 0], [0, 1]])
    assert b[0] - a[0] == pytest.approx(c[1] - a[1])


def test_each_group_has_a_colour_and_a_line_in_the_legend():
    axes, _ = drawn_map(POINTS, WORDS, ["English", "English", "日本語", "日本語", "日本語"])
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["English", "日本語"]
    assert [len(drawn.get_offsets()) for drawn in axes.collections] == [2, 3]
    colors = [text.get_color() for text in axes.texts]
    assert len(set(colors[:2])) == len(set(colors[2:])) == 1
    assert colors[0] != colors[2]


def test_more_groups_than_colours_differ_by_their_marks():
    groups = [str(n) for n in range(13)]
    axes, _ = drawn_map(np.random.default_rng(1).normal(size=(13, 2)), groups, groups)
    marks = {
        (tuple(drawn.get_facecolor()[0]), drawn.get_paths()[0].vertices.tobytes())
        for drawn in axes.collections
    }
    assert len(marks) == 13


@pytest.mark.slow(but=["spread1-5", "spread2-100"])
@pytest.mark.parametrize("count", [5, 100, 200])
@pytest.mark.parametrize("spread", [(1, 1), (3, 1), (1, 9)])
def test_names_cover_neither_each_other_nor_a_point_and_stay_on_the_page(count, spread):
    points = np.random.default_rng(2).normal(size=(count, 2)) * spread
    names = [f"{WORDS[n % 5]}{n}" for n in range(count)]
    axes, boxes = drawn_map(points, names)
    page = axes.get_window_extent()
    pixels = axes.transData.transform(points)
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[n + 1 :])
        assert not any(box.contains(x, y) for x, y in pixels)
        assert Bbox.intersection(box, page).bounds == pytest.approx(box.bounds)
    assert len(boxes) >= min(count, 5 if count == 5 else 60)
    shown = axes.get_title(loc="right")
    assert shown == ("" if len(boxes) == count else f"{len(boxes)} of {count} names fit")


def test_names_at_one_point_stand_around_it():
    axes, boxes = drawn_map(np.ones((3, 2)), ["one", "two", "three"])
    assert texts(axes) == ["one", "two", "three"]
    assert not boxes[0].overlaps(boxes[1]) and not boxes[1].overlaps(boxes[2])


def test_a_point_may_have_no_name():
    axes, _ = drawn_map(POINTS, ["cat", "", " ", "犬", ""])
    assert texts(axes) == ["cat", "犬"]


@given(st.text(max_size=60))
@settings(max_examples=50)
def test_any_name_can_be_drawn_on_one_line(name):
    label = vectors.name_label(name)
    _, glyphs = canvas.fonts()
    assert canvas.em_width(label) <= 15
    assert all(ord(character) in glyphs and character.isprintable() for character in label)


@pytest.mark.parametrize(
    ("points", "names", "groups", "message"),
    [
        ([], [], None, r"shape \(0,\), with 0 names"),
        (POINTS, WORDS[:3], None, r"shape \(5, 2\), with 3 names"),
        (np.ones((5, 3)), WORDS, None, r"shape \(5, 3\)"),
        (POINTS, WORDS, ["a"], "5 points with 1 group"),
    ],
)
def test_points_without_partners_are_refused(tmp_path, points, names, groups, message):
    with pytest.raises(ValueError, match=message):
        pictures.map_of_vectors(tmp_path / "map.png", points, names, groups)
    assert os.listdir(tmp_path) == []


# Matrices


def test_the_matrix_is_the_similarities():
    (axes, _) = vectors._matrix_figure(COSINES, WORDS[:3], "").axes
    np.testing.assert_array_equal(axes.images[0].get_array(), COSINES)
    assert texts(axes) == [f"{x:.2f}" for x in COSINES.ravel()]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == WORDS[:3]
    assert axes.images[0].get_clim() == (-1, 1)  # white is 0


def test_a_large_matrix_has_no_numbers_and_names_that_do_not_overlap():
    with canvas.style():
        figure = vectors._matrix_figure(np.eye(211), [f"猫{n}" for n in range(211)], "")
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert texts(figure.axes[0]) == []
    assert len(boxes) > 50
    assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


def test_a_matrix_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(3, 3\), with 2 names"):
        pictures.similarity_matrix(tmp_path / "m.png", COSINES, ["a", "b"])


# States and caches


def test_the_cells_are_the_angles_between_layers():
    axes, _ = states._states_figure(STATES, [" cat", "猫"], "").axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[90], [0]], atol=1e-6)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["␣cat", "猫"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1"]
    assert texts(axes) == ["90", "0"]


def test_the_cells_of_a_cache_are_the_mean_over_layers_and_empty_slots_are_blank():
    upper, lower, *_ = states._cache_figure(CACHE, 2 * CACHE, ["a", "b"], "").axes
    for axes, factor in ((upper, 1), (lower, 2)):
        drawn = axes.images[0].get_array()
        assert drawn.mask.tolist() == [[False, True], [False, False]]
        assert drawn.filled(0).tolist() == [[3 * factor, 0], [3 * factor, 3 * factor]]


@pytest.mark.parametrize(
    ("draw", "arguments", "message"),
    [
        (pictures.states_by_layer, (STATES[:1], ["a", "b"]), r"\[\(2, 2\)\]"),
        (pictures.states_by_layer, (STATES, ["a"]), "1 tokens have states"),
        (pictures.cache_growth, (CACHE, CACHE[:1], ["a", "b"]), r"values \(1, 2, 2\)"),
        (pictures.cache_growth, (CACHE, CACHE, ["a"]), "1 tokens"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, draw, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "picture.png", *arguments)


# Weights


def bars(path, draw, monkeypatch):
    """Length of each bar by its name."""
    figures = []
    build = states._bars_figure
    monkeypatch.setattr(states, "_bars_figure", lambda *a: figures.append(build(*a)) or figures[0])
    draw(path, TABLE)
    (axes,) = figures[0].axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, [bar.get_width() for bar in axes.patches], strict=True))


def test_the_change_of_a_part_is_that_of_all_its_weights(tmp_path, monkeypatch):
    drawn = bars(tmp_path / "w.png", pictures.weight_changes, monkeypatch)
    # attention: sqrt(3² + 4²) / sqrt(3² + 4²); its norm was all zeros and is left out
    assert drawn == {"embedding": 0.5, "decoder/block_0/attention": 1, "decoder/final_norm": 0}


def test_the_size_of_a_part_is_the_root_of_its_mean_square(tmp_path, monkeypatch):
    drawn = bars(tmp_path / "w.png", pictures.weight_sizes, monkeypatch)
    assert drawn == {
        "embedding": 1,
        "decoder/block_0/attention": 1,  # sqrt((3² + 4²) / 25)
        "decoder/block_0/attention_norm": 0,
        "decoder/final_norm": 1,
    }


@pytest.mark.parametrize("name", ["weight_changes", "weight_sizes"])
def test_no_weight_is_refused_by_the_name_of_the_picture(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name}: .* no part"):
        getattr(pictures, name)(tmp_path / "w.png", [])
