"""The one thing that a model may know of its optimizer: which steps it did not apply."""

from __future__ import annotations

import keras


class SkipsBadSteps:
    """Base of an optimizer that applies nothing where the gradient is not finite.

    Attributes, once it is built:
        bad_steps: int32 (), how many of the last steps in a row were not applied.
    """

    bad_steps: keras.Variable
    built: bool
