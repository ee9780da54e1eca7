"""Parts of pictures of matrices: coloured cells, numbers in them, and how large they are."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from tfx_transformer.pictures.canvas import LARGEST

LINE = 0.15  # inches from one line of small text to the next


def side(count: int, each: float) -> float:
    """Return the inches of a picture's side with `count` rows or columns of `each` inches."""
    return float(np.clip(each * count, 2.2, LARGEST[0] - 2))


def every(count: int, inches: float) -> range:
    """Return the rows, of `count`, that get a name, so that names on a side of `inches` do not
    overlap."""
    return range(0, count, int(np.ceil(count * LINE / inches)))


def draw_cells(
    axes: Axes, numbers: np.ndarray, colors: str, low: float, high: float, label: str = ""
) -> AxesImage:
    """Draws a matrix as coloured cells, with a bar that shows the value of each colour."""
    axes.spines[:].set_visible(False)
    image = axes.imshow(numbers, cmap=colors, vmin=low, vmax=high, aspect="auto")
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, label=label)
    bar.outline.set_visible(False)
    return image


def write_numbers(axes: Axes, numbers: np.ndarray, image: AxesImage, form: str) -> None:
    """Writes each number into its cell, in the shade that stands out from the cell's colour."""
    for (row, column), number in np.ndenumerate(numbers):
        red, green, blue, _ = image.to_rgba(number)
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        color = "white" if dark else "#111111"
        words = form.format(number)
        axes.text(column, row, words, ha="center", va="center", fontsize=8.5, color=color)
