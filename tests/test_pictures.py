"""The run's pictures: what is drawn equals what was given, and a file is whole or not there."""

import ast
import os
import re
import statistics
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

matplotlib = pytest.importorskip("matplotlib")

from matplotlib import font_manager  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.image import imread  # noqa: E402

from tfx_transformer import pictures, wording  # noqa: E402
from tfx_transformer.pictures import attention, canvas, training  # noqa: E402
from tfx_transformer.pictures import texts as fixed_texts  # noqa: E402

# A missing glyph, a colliding layout or a deprecated call is a warning: here each is a failure.
pytestmark = pytest.mark.filterwarnings("error")

EPOCHS = [
    {"epoch": 1, "loss": 6.5, "val_loss": 6.25},
    {"epoch": 2, "loss": 3.5, "val_loss": 4.0},
    {"epoch": 3, "loss": 1.5, "val_loss": 3.125},
    {"epoch": 4, "loss": 0.5, "val_loss": 3.75},
]
LENGTHS = {"source": [3, 5, 5, 7, 11], "target": [2, 2, 13, 2, 3]}
SOURCE = ["I", " love", " cats", ".", "</s>"]
TARGET = ["私", "は", "猫", "が", "好き", "です", "。"]
WEIGHTS = np.random.default_rng(7).dirichlet(np.ones(5), size=7)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def line(axes, label):
    return next(drawn for drawn in axes.lines if drawn.get_label() == label).get_xydata()


# Files


@pytest.mark.parametrize(
    ("draw", "arguments"),
    [
        (pictures.loss_curve, (EPOCHS,)),
        (pictures.loss_curve, (EPOCHS[:1],)),
        (pictures.loss_curve, ([{"epoch": 1, "loss": float("nan")}],)),
        (pictures.length_histogram, (LENGTHS, 12)),
        (pictures.length_histogram, ({"原文": []}, None)),
        (pictures.attention_map, (WEIGHTS, SOURCE, TARGET, "I love cats. → 私は猫が好きです。")),
        (pictures.attention_map, ([[1.0]], ["Hi"], ["やあ"])),
        (pictures.self_attention_map, (WEIGHTS[:5], SOURCE, "I love cats.")),
    ],
)
def test_writes_one_png_of_7_by_4_5_inches_and_returns_its_path(tmp_path, draw, arguments):
    path = draw(str(tmp_path / "picture.png"), *arguments).path
    assert path == tmp_path / "picture.png"
    assert os.listdir(tmp_path) == ["picture.png"]
    pixels = imread(path)
    assert pixels.shape == (675, 1050, 4)  # 150 dots per inch
    assert (pixels[..., 3] == 1).all()
    assert pixels.min() < 0.5  # more than an empty page


def test_the_picture_grows_with_the_panels_and_the_tokens_up_to_16_inches(tmp_path):
    many = pictures.length_histogram(tmp_path / "many.png", dict.fromkeys("abcd", [1, 2, 3]))
    assert imread(many).shape[:2] == (4 * 300, 1050)
    weights = np.full((300, 31), 1 / 31)  # 1.6 + 0.24 * 31 = 9.04 inches wide
    wide = pictures.attention_map(tmp_path / "map.png", weights, ["x"] * 31, ["y"] * 300)
    assert imread(wide).shape[:2] == (2400, 1356)


def test_a_notebook_shows_the_picture_that_is_in_the_file_or_in_none(tmp_path):
    written = pictures.loss_curve(tmp_path / "loss.png", EPOCHS)
    assert written._repr_png_() == (tmp_path / "loss.png").read_bytes()
    held = pictures.loss_curve(None, EPOCHS)
    assert held._repr_png_() == written.png and held.path is None
    assert repr(held) == "Picture(in memory, 1,050 × 675 pixels)"
    with pytest.raises(TypeError, match="not written to a file"):
        os.fspath(held)


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch, failure):
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")

    def fail(*_):
        raise failure

    monkeypatch.setattr(canvas.os, "replace", fail)
    with pytest.raises(type(failure)):
        pictures.loss_curve(path, EPOCHS)
    assert os.listdir(tmp_path) == ["loss.png"]
    assert path.read_bytes() == b"old"


def test_a_failed_drawing_touches_no_file(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(MemoryError):
        pictures.loss_curve(tmp_path / "loss.png", EPOCHS)
    assert os.listdir(tmp_path) == []


def test_neither_reads_nor_changes_the_callers_settings(tmp_path):
    plain = pictures.attention_map(tmp_path / "a.png", WEIGHTS, SOURCE, TARGET).png
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 50, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        again = pictures.attention_map(tmp_path / "b.png", WEIGHTS, SOURCE, TARGET).png
        assert dict(matplotlib.rcParams) == before
    assert again == plain


def test_imports_neither_pyplot_nor_tensorflow_nor_the_packages_of_fonts(tmp_path):
    program = (
        "import sys; from tfx_transformer import pictures as p;"
        "p.attention_map(sys.argv[1], [[1.0]], ['a'], ['猫']);"
        "p.loss_curve(sys.argv[1], [{'epoch': 1, 'loss': 1.0}]);"
        "names = {'matplotlib.pyplot', 'tensorflow', 'keras', 'matplotlib_fontja'};"
        "names.add('koreanize_matplotlib');"
        "print(sorted(names & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "picture.png")]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


# Loss


def test_loss_lines_are_the_data_and_the_best_epoch_is_ringed():
    figure = training._loss_figure(EPOCHS)
    (axes,) = figure.axes
    assert line(axes, "training").tolist() == [[1, 6.5], [2, 3.5], [3, 1.5], [4, 0.5]]
    assert line(axes, "validation").tolist() == [[1, 6.25], [2, 4.0], [3, 3.125], [4, 3.75]]
    assert line(axes, "best").tolist() == [[3, 3.125]]
    assert texts(figure) == ["best: 3.125 at epoch 3", "training 0.5000", "validation 3.750"]


@pytest.mark.parametrize(
    ("best", "ringed", "words"),
    [
        (2, (2, 4.0), {"training 0.5000", "validation 3.750", "kept: 4.000 at epoch 2"}),
        (4, (4, 3.75), {"training 0.5000", "validation 3.750 (kept)"}),
    ],
)
def test_the_best_epoch_may_be_another_than_that_of_the_lowest_loss(best, ringed, words):
    figure = training._loss_figure(EPOCHS, best)
    assert line(figure.axes[0], "best").tolist() == [list(ringed)]
    assert set(texts(figure)) == words


def test_without_validation_the_best_epoch_is_that_of_the_training_loss():
    figure = training._loss_figure([{"epoch": 7, "loss": 2.5}, {"epoch": 8, "loss": 2.0}])
    assert [drawn.get_label() for drawn in figure.axes[0].lines] == ["training", "best"]
    assert line(figure.axes[0], "best").tolist() == [[8, 2.0]]
    assert texts(figure) == ["training 2.000 (best)"]


def test_missing_and_infinite_losses_are_left_out_and_the_label_says_where_a_line_ends():
    figure = training._loss_figure(
        [
            {"epoch": 1, "loss": 3.0, "val_loss": None},
            {"epoch": 2, "loss": 2.0, "val_loss": 2.5},
            {"epoch": 3, "loss": float("inf"), "val_loss": float("nan")},
            {"epoch": 4, "loss": float("nan")},
        ]
    )
    assert line(figure.axes[0], "training").tolist() == [[1, 3.0], [2, 2.0]]
    assert line(figure.axes[0], "validation").tolist() == [[2, 2.5]]
    assert texts(figure) == ["training 2.000 at epoch 2", "validation 2.500 at epoch 2 (best)"]


@pytest.mark.parametrize("count", [1, 2, 5, 30, 400])
def test_epoch_ticks_are_whole_and_inside_the_run(count):
    figure = training._loss_figure([{"epoch": n, "loss": 5 / n} for n in range(1, count + 1)])
    low, high = figure.axes[0].get_xlim()
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == round(tick) and 1 <= tick <= count for tick in ticks)


@pytest.mark.parametrize("difference", [0.0, 0.01, -0.3, -3.0])
@pytest.mark.parametrize("count", [1, 9])
def test_the_labels_of_the_line_ends_never_overlap(difference, count):
    epochs = [
        {"epoch": n, "loss": 4 + 4 / n, "val_loss": 4 + 4 / n + difference}
        for n in range(1, count + 1)
    ]
    with canvas.style():
        figure = training._loss_figure(epochs)
        figure.draw_without_rendering()
        one, other = [text.get_window_extent() for text in figure.axes[0].texts]
        page = figure.bbox
    assert not one.overlaps(other)
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in (one, other))


def test_no_epoch_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no epoch"):
        pictures.loss_curve(tmp_path / "loss.png", [])
    assert os.listdir(tmp_path) == []


# Lengths


def test_each_bar_counts_the_texts_of_its_length():
    figure = training._length_figure(LENGTHS, limit=None)
    for axes, values in zip(figure.axes, LENGTHS.values(), strict=True):
        drawn = {
            round(bar.get_x() + bar.get_width() / 2): bar.get_height()
            for bar in axes.patches
            if bar.get_height()
        }
        assert drawn == Counter(values)
    assert [axes.get_title() for axes in figure.axes] == ["source", "target"]


def test_median_95th_percentile_and_limit_stand_where_they_are():
    values = list(range(1, 101))  # 95 of 100 texts have at most 95 tokens, 10 more than 90
    figure = training._length_figure({"text": values}, limit=90)
    (axes,) = figure.axes
    assert [drawn.get_xdata()[0] for drawn in axes.lines] == [50, 90.5, 95]
    assert texts(figure) == ["median 50", "limit 90, 10.0 % longer", "95 % ≤ 95"]


def test_endless_texts_and_a_far_limit_are_told_in_words():
    figure = training._length_figure({"text": [5] * 1997 + [6, 12, 10**6]}, limit=10**5)
    (axes,) = figure.axes
    assert axes.get_xlim()[1] < 12
    assert axes.get_title(loc="right") == "2,000 texts, longest 1,000,000 (2 not shown)"
    assert "limit 100,000, < 0.1 % longer →" in texts(figure)


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=60),
    st.none() | st.integers(1, 5000),
)
@example([0], None)
@example([1] * 59 + [5000], 5000)
@settings(max_examples=15, deadline=None)
def test_no_text_is_lost_and_the_marks_are_true(values, limit):
    figure = training._length_figure({"text": values}, limit)
    (axes,) = figure.axes
    end = axes.get_xlim()[1]
    assert sum(bar.get_height() for bar in axes.patches) == sum(n <= end for n in values)
    hidden = sum(n > end for n in values)
    assert (f"({hidden:,} not shown)" in axes.get_title(loc="right")) == (hidden > 0)
    ninety_fifth = sorted(values)[-(-95 * len(values) // 100) - 1]
    words = texts(figure)
    assert any(word.startswith(f"median {statistics.median_low(values):,}") for word in words)
    assert any(word.startswith(f"95 % ≤ {ninety_fifth:,}") for word in words)
    if limit is not None:
        (said,) = [word for word in words if word.startswith(f"limit {limit:,}, ")]
        assert ("none longer" in said) == (max(values) <= limit)
        places = {word.get_text(): word.xy[1] for word in axes.texts}
        assert not said.endswith("→") or places[said] == max(places.values())


def test_no_column_is_an_error():
    with pytest.raises(ValueError, match="no column"):
        training._length_figure({}, None)


# Attention


def test_the_map_is_the_weights_and_the_axes_are_the_tokens():
    figure = attention._attention_figure(WEIGHTS, SOURCE, TARGET, "title")
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.images[0].get_array(), WEIGHTS)
    assert axes.images[0].origin == "upper"  # the first target token is the top row
    columns = ["I", "␣love", "␣cats", ".", "</s>"]
    assert [label.get_text() for label in axes.get_xticklabels()] == columns
    assert [label.get_text() for label in axes.get_yticklabels()] == TARGET
    assert axes.get_title(loc="left") + axes.get_title() == "title"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("source", "target")
    for text in axes.texts:
        column, row = text.get_position()
        assert float(text.get_text()) == pytest.approx(WEIGHTS[row, column], abs=0.00501)
    assert len(axes.texts) == WEIGHTS.size


def test_a_text_that_looks_at_itself_has_its_tokens_on_both_sides(tmp_path, monkeypatch):
    made = []

    def write(path, build, *given, caption):
        made.append(build(*given))

    monkeypatch.setattr(attention, "write", write)
    pictures.self_attention_map(tmp_path / "map.png", WEIGHTS[:5], SOURCE, "title")
    (axes,) = made[0].axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["I", "␣love", "␣cats", ".", "</s>"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("looks at", "token")


def test_parts_of_a_character_say_of_which(tmp_path):
    tokens = [
        b"<s>",
        b"\xe4\xba",
        b"\xac",
        b"\xe9",
        b"\x83\xbd \xf0\x9f",
        b"\x98\x80",
        b"\xe4",
        b"a",
    ]
    figure = attention._attention_figure(np.eye(8), tokens, tokens, "")
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    both = "都␣\N{GRINNING FACE}"
    assert shown[:3] == ["<s>", "京 1/2", "京 2/2"]
    assert shown[3:6] == [f"{both} {part}/3" for part in (1, 2, 3)]
    assert shown[6:] == ["\\xe4", "a"]


@pytest.mark.parametrize("letter", ["a", "猫"])
def test_a_title_ends_where_the_picture_does(letter):
    with canvas.style():
        figure = attention._attention_figure(np.eye(3), "abc", "abc", letter * 500)
        figure.draw_without_rendering()
        title = figure.axes[0]._left_title
        page = figure.get_window_extent()
        assert page.width / 2 < title.get_window_extent().x1 < page.x1
    assert title.get_text() == letter * (len(title.get_text()) - 1) + "…"


def test_a_large_map_has_a_colour_bar_instead_of_numbers_and_labels_that_fit():
    weights = np.full((200, 13), 1 / 13)
    figure = attention._attention_figure(weights, ["a"] * 13, [str(n) for n in range(200)], "")
    axes, bar = figure.axes
    assert texts(figure) == []
    assert bar.get_ylabel() == "attention weight"
    ticks = axes.get_yticks()
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(n) for n in ticks]
    with canvas.style():
        figure = attention._attention_figure(weights, ["a"] * 13, ["猫"] * 200, "")
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) > 20
    assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


@pytest.mark.parametrize("token", ["a", " love", "です", " internationalization"])
@pytest.mark.parametrize("count", [8, 40])
def test_source_labels_never_overlap(token, count):
    with canvas.style():
        weights = np.full((2, count), 1 / count)
        figure = attention._attention_figure(weights, [token] * count, ["a", "b"], "")
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) == count
    assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))


def test_numbers_have_contrast_to_their_cells():
    """At least 4:1, by the formula of the Web Content Accessibility Guidelines 2.1."""

    def luminance(color):
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in to_rgb(color)
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    weights = np.concatenate([np.linspace(0, 1, 12), 1 - np.linspace(0, 1, 12)]).reshape(2, 12).T
    (axes,) = attention._attention_figure(weights, ["a", "b"], ["c"] * 12, "").axes
    for text in axes.texts:
        column, row = text.get_position()
        cell = axes.images[0].to_rgba(weights)[row, column]
        dark, light = sorted([luminance(cell), luminance(text.get_color())])
        assert (light + 0.05) / (dark + 0.05) >= 4


def test_every_japanese_character_has_its_own_picture(tmp_path):
    drawn = {
        pictures.attention_map(tmp_path / "map.png", [[1.0]], ["a"], [token]).png
        for token in ["猫", "犬", "は", "。"]
    }
    assert len(drawn) == 4  # a missing glyph would be the same empty box each time


def test_matplotlib_alone_would_miss_the_glyph(tmp_path):
    """Without it, the tests above could not fail."""
    figure = Figure()
    figure.text(0.5, 0.5, "猫")
    with pytest.warns(UserWarning, match="Glyph .* missing"):
        figure.savefig(tmp_path / "box.png")


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (" love", "␣love"),
        ("  ", "␣␣"),
        ("\n", r"\n"),
        ("\t\r", r"\t\r"),
        ("\x00", "U+0000"),
        ("\u3000", "U+3000"),
        ("한국어", "한국어"),
        ("🫠", "U+1FAE0"),
        ("$x^2$", "$x^2$"),
        ("\ufffd", "\ufffd"),
        (b" caf\xc3\xa9", "␣café"),
        (b"\xe7\x8c", r"\xe7\x8c"),
        ("は".encode() + b"\xe5", r"は\xe5"),
        (b"\xe7".decode("utf-8", "surrogateescape"), r"\xe7"),
        ("x" * 18, "x" * 18),
        ("x" * 19, "x" * 17 + "…"),
    ],
)
def test_token_labels(token, label):
    assert canvas.token_label(token) == label


@given(st.text(st.characters(), min_size=1) | st.binary(min_size=1))
@settings(deadline=None)
def test_any_token_becomes_a_label_that_can_be_seen(token):
    label = canvas.token_label(token)
    families, _ = canvas.fonts()
    files = [font_manager.findfont(family, fallback_to_default=False) for family in families]
    charmaps = [font_manager.get_font(file).get_charmap() for file in files]
    assert 1 <= len(label) <= 18
    assert not any(character.isspace() for character in label)
    assert all(any(ord(character) in glyphs for glyphs in charmaps) for character in label)


def test_odd_tokens_and_titles_draw_without_a_warning(tmp_path):
    odd = ["$", "$x$", "\\frac{", "한", "😀", "\x00", b"\xff", "\ud800", "", "a\u0301"]
    weights = np.eye(len(odd))
    title = "$\\frac{$ 한 \x07\n"
    assert pictures.attention_map(tmp_path / "map.png", weights, odd, odd, title).path.exists()
    assert pictures.length_histogram(tmp_path / "lengths.png", {title: [1]}).path.exists()


def test_without_the_font_package_japanese_is_spelled_out(tmp_path, monkeypatch):
    monkeypatch.setattr(canvas.importlib.util, "find_spec", lambda name: None)
    canvas.fonts.cache_clear()
    try:
        assert canvas.token_label("猫") == "U+732B"
        assert pictures.attention_map(tmp_path / "map.png", [[1.0]], ["cat"], ["猫"]).path.exists()
    finally:
        canvas.fonts.cache_clear()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (WEIGHTS.T, r"shape \(5, 7\), the tokens ask for \(7, 5\)"),
        (WEIGHTS[None], r"shape \(1, 7, 5\)"),
        (WEIGHTS * 4, "row 0 of the weights sums to 4, not to 1"),
        (np.where(np.arange(7)[:, None] == 3, np.nan, WEIGHTS), "row 3 of the weights sums to nan"),
    ],
)
def test_weights_that_are_no_attention_are_refused_and_named(tmp_path, weights, message):
    with pytest.raises(ValueError, match=message):
        pictures.attention_map(tmp_path / "map.png", weights, SOURCE, TARGET)
    assert os.listdir(tmp_path) == []


def test_half_precision_weights_are_accepted():
    figure = attention._attention_figure(WEIGHTS.astype(np.float16), SOURCE, TARGET, "")
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), WEIGHTS, atol=5e-4)


# Languages


def said():
    """The literal texts that pictures and runs say."""
    root = Path(canvas.__file__).parents[1]
    sources = [*root.glob("pictures/*.py"), root / "training" / "drawing.py"]
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            named = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say"
            if named and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def test_every_text_has_a_japanese_one_with_the_same_fields_and_glyphs():
    fields = re.compile(r"\{[^}]*\}")
    table = fixed_texts._JAPANESE
    assert len(set(said())) > 20 and set(said()) <= table.keys()
    for english, japanese in table.items():
        assert sorted(fields.findall(english)) == sorted(fields.findall(japanese)), english
        assert canvas.drawable(japanese) == japanese


def test_pictures_speak_the_language_of_the_report(monkeypatch):
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    epochs = [{"epoch": 1, "loss": 2.0, "val_loss": 1.5}, {"epoch": 2, "loss": 1.0, "val_loss": 2}]

    def drawn():
        return [
            pictures.confusion_matrix(None, [0, 1], [0, 1], ["a", "b"]).png,
            pictures.calibration(None, probabilities, np.array([0, 1, 0])).png,
            pictures.loss_curve(None, epochs).png,
            pictures.length_histogram(None, {"text": [3, 5, 8]}, 6).png,
        ]

    english = drawn()
    monkeypatch.setattr(wording, "_language", "ja")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that is missing
        japanese = drawn()
    assert all(one != other for one, other in zip(english, japanese, strict=True))
    assert fixed_texts.say("median {length:,}", length=1234) == "中央値 1,234"
