"""Picture of many images side by side, such as those that a classifier got wrong."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tfx_transformer.pictures.canvas import (
    INK,
    Picture,
    drawable,
    new_figure,
    shorten,
    write,
)

COLUMNS = 6
SIDE = 1.35  # inches of an image with the room around it
_LINE = 0.17  # inches of a line of words
_SMALL = 32  # pixels of an image that is drawn with visible pixels
_WIDEST = 9.0  # font sizes that fit below an image


def contact_sheet(
    path: str | os.PathLike[str] | None,
    images: Sequence[np.ndarray],
    words: Sequence[str],
    title: str = "",
    caption: str = "",
) -> Picture:
    """Draws images in rows of six, each with its words below it.

    Args:
        path: the PNG to write, None to write none; its folder exists.
        images: uint8 (height, width, 3) each, of any size; they keep their proportions.
        words: the text below each image, in lines; a line that is too long is cut.
        title: drawn above them.
        caption: small below the picture, such as the names of the model and its data.

    Raises: ValueError if there is no image, or not one text per image.
    """
    return write(path, _sheet, images, words, title, caption=caption)


def _sheet(images: Sequence[np.ndarray], words: Sequence[str], title: str) -> Figure:
    if not len(images) or len(images) != len(words):
        raise ValueError(
            f"contact_sheet: the number of images is {len(images)}, of texts {len(words)}.\n"
            "  Expected one image or more, and one text per image."
        )
    rows = -(-len(images) // COLUMNS)
    lines = max(text.count("\n") + 1 for text in words)
    height = rows * (SIDE + lines * _LINE) + 0.6
    figure = new_figure(COLUMNS * SIDE + 0.3, height)
    figure.suptitle(drawable(title), x=0.01, ha="left", fontsize=12, color=INK)
    for place, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).ravel()):
        axes.set_axis_off()
        if place < len(images):
            smooth = None if max(images[place].shape[:2]) > _SMALL else "nearest"
            axes.imshow(images[place], interpolation=smooth)
            shown = [shorten(drawable(line), _WIDEST) for line in words[place].split("\n")]
            axes.set_title("\n".join(shown), y=-0.02, va="top", loc="center", fontsize=8, pad=0)
    return figure
