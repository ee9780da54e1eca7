"""Types of arguments and results for which the libraries have no types of their own."""

from __future__ import annotations

from typing import Any, TypeAlias

# A tensor of the Keras backend, or a symbolic one; as an argument also a NumPy array.
Tensor: TypeAlias = Any
