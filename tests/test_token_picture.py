"""The token picture: every token a box, boxes in order, none over another, the rest in words."""

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.image import imread  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402

from tfx_transformer import pictures  # noqa: E402
from tfx_transformer.pictures import canvas, tokens  # noqa: E402

# A missing glyph or a deprecated call is a warning: here each is a failure.
pytestmark = pytest.mark.filterwarnings("error")

ENGLISH = [b"I", b" love", b" cats", b"."]
JAPANESE = [
    "私".encode(),
    "は".encode(),
    b"\xe7\x8c",
    b"\xab",
    "が".encode() + b"\xe5\xa5",
    b"\xbd",
]
PARTS = [b"i", b"W", b" ", b"\n", b"$", b"\xff", b"\xe7", b"\x8c", "猫".encode(), "🎉".encode()]
ROWS = {"mine": [(ENGLISH, 4), (JAPANESE, 6)], "別の": [([b"I love cats."], 1), (JAPANESE, 6)]}


def figure_of(rows, title=""):
    with canvas.style():
        figure = tokens._token_figure(rows, title)
        figure.draw_without_rendering()
    return figure


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def boxes(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]


def test_writes_one_png_and_returns_its_path(tmp_path):
    path = pictures.token_picture(str(tmp_path / "tokens.png"), ROWS, "Tokens $x$").path
    assert path == tmp_path / "tokens.png"
    assert os.listdir(tmp_path) == ["tokens.png"]
    pixels = imread(path)
    assert pixels.shape[1] == 1500 and 300 < pixels.shape[0] < 700
    assert (pixels[..., 3] == 1).all()
    assert pixels[:-10].min() < 0.5 and pixels[-10:].min() == 1  # nothing is cut off below


def test_labels_are_the_tokens():
    figure = figure_of(ROWS, "title")
    said = words(figure)
    assert said[:3] == ["title", "I love cats.", "私は猫が好"]
    japanese = ["6 tokens", "私", "は", "e7 8c", "ab", "が e5 a5", "bd"]
    assert said[3:9] == ["mine", "4 tokens", "I", "␣love", "␣cats", "."]
    assert said[9:16] == japanese
    assert said[16:] == ["別の", "1 token", "I␣love␣cats.", *japanese]
    assert len(boxes(figure)) == 4 + 6 + 1 + 6


@given(
    st.lists(
        st.lists(
            # No accents that combine: Matplotlib looks for them in the font of the letter before.
            st.lists(st.sampled_from(PARTS), min_size=1, max_size=9).map(b"".join),
            max_size=60,
        ),
        min_size=1,
        max_size=3,
    )
)
@example([[b"i"] * 60, ["猫".encode() * 18] * 60, [b"W" * 18] * 60])
@settings(max_examples=8)
def test_boxes_hold_their_labels_and_stay_apart(texts):
    figure = figure_of({"x": [(text, len(text)) for text in texts]})
    page = figure.bbox
    extents = [box.get_window_extent() for box in boxes(figure)]
    for one, other in zip(extents, extents[1:], strict=False):
        assert other.x0 >= one.x1 or other.y1 <= one.y0
        assert one.height == pytest.approx(other.height)
    labels = [text.get_window_extent() for text in figure.axes[0].texts]
    for box in extents:
        inside = [t for t in labels if box.x0 <= t.x0 and t.x1 <= box.x1 and box.overlaps(t)]
        assert len(inside) == 1
        assert page.x0 <= box.x0 and box.x1 <= page.x1
        assert page.y0 <= box.y0 and box.y1 <= page.y1


def test_what_is_left_out_is_told():
    long = [b"token"] * 500
    said = words(figure_of({"x": [(long, 7000)]}))
    drawn = said.count("token")
    assert said[-1] == f"… {7000 - drawn:,} more"
    assert 50 < drawn < 200
    said = words(figure_of({"x": [(long[:3], 7000)]}))
    assert said[-1] == "… 6,997 more"
    assert len(boxes(figure_of({"x": [([b"a"], 1)] * 4}))) == 4


def test_many_long_texts_stay_below_16_inches_or_so():
    rows = {str(n): [([b"token"] * 500, 500)] * 4 for n in range(5)}
    figure = figure_of(rows)
    assert figure.get_size_inches()[1] < 18
    assert sum(word.startswith("… ") for word in words(figure)) == 20


def test_a_long_text_is_shortened_to_the_width_of_the_page():
    for token in (b"W", "猫".encode()):
        figure = figure_of({"x": [([token] * 500, 500)]})
        text = figure.axes[0].texts[0]
        assert text.get_text().endswith("…")
        assert text.get_window_extent().x1 <= figure.bbox.x1


def test_labels_have_contrast_to_their_boxes():
    """At least 4:1, by the formula of the Web Content Accessibility Guidelines 2.1."""

    def luminance(color):
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in to_rgb(color)
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    figure = figure_of({"x": [([b"\xe7"] * 6, 6)]})
    labels = [text for text in figure.axes[0].texts if text.get_text() == "e7"]
    assert len({box.get_facecolor() for box in boxes(figure)}) == 6
    for label, box in zip(labels, boxes(figure), strict=True):
        light, dark = luminance(box.get_facecolor()[:3]), luminance(label.get_color())
        assert (light + 0.05) / (dark + 0.05) >= 4


@pytest.mark.parametrize("rows", [{}, {"x": []}])
def test_no_text_is_an_error(tmp_path, rows):
    with pytest.raises(ValueError, match="no text"):
        pictures.token_picture(tmp_path / "tokens.png", rows)
    assert os.listdir(tmp_path) == []
