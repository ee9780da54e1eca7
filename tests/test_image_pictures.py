"""The sheet of images, and the caption that any picture may have below it."""

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.image import imread  # noqa: E402

from tfx_transformer import pictures  # noqa: E402
from tfx_transformer.pictures.canvas import style  # noqa: E402
from tfx_transformer.pictures.images import _sheet  # noqa: E402

# A missing glyph, a colliding layout or a deprecated call is a warning: here each is a failure.
pytestmark = pytest.mark.filterwarnings("error")

COLOURS = np.random.default_rng(3).integers(0, 256, (40, 3), dtype=np.uint8)
EPOCHS = [{"epoch": 1, "loss": 2.0, "val_loss": 3.0}, {"epoch": 2, "loss": 1.0, "val_loss": 2.5}]


def plain(count):
    """Images of one colour each, of different sizes."""
    return [np.full((7 + n, 11, 3), COLOURS[n]) for n in range(count)]


@pytest.mark.slow(but=["1", "7"])
@pytest.mark.parametrize("count", [1, 6, 7, 24])
def test_every_image_is_drawn_in_its_colour(tmp_path, count):
    words = [f"dog {n} %\nlabel: cat" for n in range(count)]
    path = pictures.contact_sheet(tmp_path / "a.png", plain(count), words, "t").path
    pixels = (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    seen = {tuple(pixel) for pixel in np.unique(pixels, axis=0)}
    assert {tuple(colour) for colour in COLOURS[:count].tolist()} <= seen


def test_words_stand_below_their_image_on_the_page():
    words = ["dog 97 %\nlabel: " + "長い名前" * 9, "한 😀\nlabel: \u202ex"] * 4
    with style():
        figure = _sheet(plain(8), words, "Most confident mistakes")
        figure.canvas.draw()
    page = figure.bbox
    titles = [axes.title for axes in figure.axes if axes.title.get_text()]
    assert len(titles) == 8
    for title in titles:
        box, image = title.get_window_extent(), title.axes.get_window_extent()
        assert box.y1 <= image.y0 + 2 and page.y0 <= box.y0
        assert page.x0 <= box.x0 and box.x1 <= page.x1


@pytest.mark.parametrize(("images", "words"), [([], []), (plain(2), ["one"])])
def test_images_without_words_are_refused(images, words):
    with pytest.raises(ValueError, match="Expected one image or more, and one text per image"):
        pictures.contact_sheet(None, images, words)


# Name of a picture with a caption -> what it draws.
CAPTIONED = {
    "loss_curve": (EPOCHS,),
    "length_histogram": ({"text": [3, 5, 7]}, 11),
    "confusion_matrix": ([0, 1, 1], [0, 1, 0], ["a", "b"]),
    "calibration": (np.array([[0.7, 0.3], [0.4, 0.6]]), [0, 1]),
    "self_attention_map": (np.eye(3), ["a", "b", "c"], "a b c"),
    "attention_map": (np.eye(3), ["a", "b", "c"], ["a", "b", "c"]),
    "contact_sheet": (plain(1), ["a"]),
}
CAPTIONS = {
    "short": "en_ja · en_ja.csv",
    "long": "名前 · " + "long " * 99,
    "odd": "a\nb $x$ \u202e",
}


@pytest.mark.slow(
    but=["loss_curve-short", "loss_curve-odd"] + [f"{name}-long" for name in CAPTIONED]
)
@pytest.mark.parametrize("caption", CAPTIONS.values(), ids=CAPTIONS)
@pytest.mark.parametrize(("name", "arguments"), CAPTIONED.items(), ids=CAPTIONED)
def test_a_caption_is_below_the_picture(tmp_path, name, arguments, caption):
    draw = getattr(pictures, name)
    without = imread(draw(tmp_path / "a.png", *arguments).path)
    with_it = imread(draw(tmp_path / "b.png", *arguments, caption=caption).path)
    assert with_it.shape == without.shape
    strip = with_it[-30:, :, :3]
    ink = np.flatnonzero((strip < 0.7).all(axis=2).any(axis=0))
    assert ink.size > 20 and ink[0] > 5, "something is written, and not cut at the left"
    assert with_it.shape[1] - ink[-1] < 30, "at the right"
