"""Bounds of a server on requests."""

from __future__ import annotations

import dataclasses

from tfx_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a server; the values are checked when it is made.

    Attributes:
        queue: most pieces of work of a model that wait or run at a time; more are refused with
            503. A piece is a text to write, or up to `PIECE` inputs of another model.
        seconds: most seconds for one request, waiting included. Then a running answer is cut; one
            that has not begun is refused with 504.
        body: most bytes of a request; image_body: of a request with images.
        held: most bytes of all running requests together, as text and as parsed values.
        requests: most running requests; more are refused with 503.
        body_seconds: most seconds in which a request arrives.
        grace: most seconds for running answers when the server shuts down.

    Raises:
        InputError: a value is not positive.
    """

    queue: int = 128
    seconds: float = 60.0
    body: int = 1 << 20
    image_body: int = 20 << 20
    held: int = 512 << 20
    requests: int = 512
    body_seconds: float = 20.0
    grace: float = 10.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise InputError(f"{field.name} is {value}.\n  Expected a number above 0.")


# Most inputs in one piece of work, and in one request.
PIECE = 32
MOST_INPUTS = 1024
# Most texts that one request lets a model write, and most choices for each.
MOST_TEXTS = 64
MOST_CHOICES = 8
# Most characters of a value of a request in a message.
SHOWN = 60
# Most characters of a row that a search finds: of its text, its cells and their names.
ROW = 10_000
