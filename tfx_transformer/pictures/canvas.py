"""The frame of every picture: size, colours, fonts, and a file that is written whole or not at all.

Matplotlib's object interface only: no pyplot, no window, and the caller's rcParams do not change.
"""

import dataclasses
import functools
import importlib.util
import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import matplotlib.style
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from tfx_transformer import files

DPI = 150
SIZE = (7.0, 4.5)  # inches; an attention map of many tokens grows, up to LARGEST
LARGEST = (16.0, 16.0)

# Okabe and Ito's palette: distinct with every common colour blindness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK = "#333333"
QUIET = "#767676"
HALO = (withStroke(linewidth=3, foreground="white"),)

# Packages with a font, and its file: IPAexGothic for Japanese, Nanum Gothic for Korean.
_FONTS = (("matplotlib_fontja", "ipaexg.ttf"), ("koreanize_matplotlib", "NanumGothic.ttf"))

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#BBBBBB",
    "axes.labelcolor": QUIET,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 12,
    "font.size": 9.5,
    "grid.color": "#E8E8E8",
    "text.color": INK,
    "text.parse_math": False,  # a token or a column name may hold "$"
    "xtick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.color": QUIET,
    "ytick.major.size": 0,
}


@dataclasses.dataclass(frozen=True, repr=False)
class Picture:
    """A finished picture, which a notebook shows.

    png: the bytes of the PNG; path: its file, None if none was written.
    """

    png: bytes
    path: Path | None = None

    def __repr__(self) -> str:
        width, height = (int.from_bytes(self.png[i : i + 4], "big") for i in (16, 20))
        return f"Picture({self.path or 'in memory'}, {width:,} × {height:,} pixels)"

    def __fspath__(self) -> str:
        if self.path is None:
            raise TypeError("the picture was not written to a file: its bytes are in `png`.")
        return os.fspath(self.path)

    def _repr_png_(self) -> bytes:
        return self.png


def write(
    path: str | os.PathLike[str] | None,
    build: Callable[..., Figure],
    *arguments: Any,
    caption: str = "",
) -> Picture:
    """Draw `build(*arguments)` to memory, then put the finished PNG at `path` in one step.

    Args:
        path: the PNG to write; None: none is written.
        build: (*arguments) -> the figure.
        arguments: arguments of `build`.
        caption: small below the picture, such as the names of the model and its data.
    """
    png = io.BytesIO()
    with style():
        figure = build(*arguments)
        if caption:
            _write_caption(figure, caption)
        # The Software field would make the bytes depend on the version of Matplotlib.
        figure.savefig(png, format="png", metadata={"Software": None})
    if path is None:
        return Picture(png.getvalue())
    path = Path(path)
    files.write(path, png.getvalue())
    return Picture(png.getvalue(), path)


def _write_caption(figure: Figure, caption: str) -> None:
    widest = 8 * figure.get_size_inches()[0]  # nine of its font sizes are an inch
    words = shorten(drawable(caption), widest)
    figure.supxlabel(words, x=0.99, ha="right", fontsize=8, color=QUIET)


def style() -> AbstractContextManager:
    """Our rcParams over Matplotlib's defaults; the user's matplotlibrc does not count."""
    families, _ = fonts()
    return matplotlib.style.context(["default", STYLE, {"font.family": families}])


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # pyright: ignore
    return figure


def token_label(token: str | bytes) -> str:
    """Return a token as a readable label: nothing invisible, at most 18 characters."""
    if isinstance(token, bytes):
        token = token.decode("utf-8", "surrogateescape")
    label = drawable(token).replace(" ", "␣")
    return label if len(label) <= 18 else label[:17] + "…"


def em_width(text: str) -> float:
    """The approximate width of a text in font sizes: 1 for a kanji, 0.62 for a Latin letter."""
    return sum(1.0 if east_asian_width(character) in "WF" else 0.62 for character in text)


def shorten(text: str, widest: float) -> str:
    """Return a text cut to a width in font sizes (see `em_width`), with "…" for the rest."""
    if em_width(text) <= widest:
        return text
    while em_width(text) > widest - 1:
        text = text[:-1]
    return text + "…"


@functools.cache
def fonts() -> tuple[list[str], frozenset[int]]:
    """The font families to draw with, and the code points that one of them has a glyph for.

    Matplotlib brings DejaVu Sans; the others are files of `_FONTS`. They are found without
    importing the packages, since that import changes the global rcParams.
    """
    families = ["DejaVu Sans"]
    files = [font_manager.findfont("DejaVu Sans")]
    for package, name in _FONTS:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            continue
        file = Path(found.origin).parent / "fonts" / name
        font_manager.fontManager.addfont(file)
        families.append(font_manager.FontProperties(fname=file).get_name())
        files.append(file)
    return families, frozenset().union(*(font_manager.get_font(f).get_charmap() for f in files))


def drawable(text: str) -> str:
    """Return the text, with every character that has no glyph spelled out."""
    _, glyphs = fonts()
    return "".join(
        character if character.isprintable() and ord(character) in glyphs else _spell(character)
        for character in text
    )


def _spell(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that "surrogateescape" carried through
        return f"\\x{code - 0xDC00:02x}"
    if character in "\t\n\r":
        return repr(character)[1:-1]
    return f"U+{code:04X}"
