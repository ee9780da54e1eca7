"""Names for what signatures take and return where the libraries have no types of their own."""

from __future__ import annotations

from typing import Any, TypeAlias

# A tensor of the backend that Keras runs on, or a symbolic one; NumPy arrays serve as arguments.
Tensor: TypeAlias = Any
