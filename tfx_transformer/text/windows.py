"""Windows over the tokens of a text that is longer than a model reads, so that no token is lost."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """A stretch of the tokens of a text that a model reads at once.

    start, end: its first token and the one after its last; kept_start, kept_end: the same for its
    tokens whose answers count. Each token of a text counts in exactly one window.
    """

    start: int
    end: int
    kept_start: int
    kept_end: int


def stride(room: int) -> int:
    """Return the distance in tokens between the starts of two windows: three quarters of one."""
    return max(room - room // 4, 1)


def windows(count: int, room: int) -> list[Window]:
    """Return the windows of a text, which overlap by a quarter. A token counts in the window where
    it is farther from an end.

    Args:
        count: tokens of the text.
        room: most tokens of a window, 1 or more.
    """
    step = stride(room)
    margin = (room - step) // 2
    number = 1 if count <= room else 1 + -(-(count - room) // step)
    found = []
    for index in range(number):
        start = index * step
        is_last = index == number - 1
        end = min(start + room, count)
        kept_start = start + margin if index else 0
        found.append(Window(start, end, kept_start, count if is_last else start + step + margin))
    return found
