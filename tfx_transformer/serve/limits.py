"""Bounds of what a server takes from strangers."""

from __future__ import annotations

import dataclasses

from tfx_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a server; the values are checked when it is made.

    Attributes:
        queue: most pieces of work of a model that wait or run at a time: a text to write, or up to
            `PIECE` inputs of a classifier or an embedder. What comes then is answered with 503.
        seconds: most time for one request, waiting included. An answer under way is cut then; one
            that has not begun is refused with 504.
        body: most bytes of a request; image_body: of one that holds images.
        held: most bytes of all requests that are under way, as they are and as values.
        requests: most requests under way; what comes then is answered with 503.
        body_seconds: most time in which a request has to arrive.
        grace: seconds that answers under way have when the server is to end.

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


# Inputs of one request that are one piece of work, and most inputs of one request.
PIECE = 32
MOST_INPUTS = 1024
# Most texts that one request lets a model write, and most choices for each.
MOST_TEXTS = 64
MOST_CHOICES = 8
# Bytes of a name or a text that an error repeats.
SHOWN = 60
