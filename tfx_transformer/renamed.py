"""Old public names: they still work, and warn with the new name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def old_names(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module (PEP 562) that finds its attributes by their old names.

    Args:
        module: `__name__` of the module.
        new_names: old name -> new name.

    Warns:
        FutureWarning: an old name is used; the warning states the new one.
    """

    def find(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)
        warn(f"{module}.{name}", new_names[name])
        return getattr(sys.modules[module], new_names[name])

    return find


def old_method(old_name: str, new_name: str) -> Callable[..., Any]:
    """Return a method that warns and calls the method `new_name`; old_name: such as "Run.done"."""

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        warn(old_name, new_name)
        return getattr(self, new_name)(*arguments, **options)

    return call


def old_attribute(old_name: str, new_name: str) -> property:
    """Return a property that warns and reads the attribute `new_name`."""

    def read(self: Any) -> Any:
        warn(old_name, new_name)
        return getattr(self, new_name)

    return property(read)


def warn(old: str, new: str) -> None:
    """Warn where the caller of the caller used `old`, which is now called `new`.

    A FutureWarning, because Python hides a DeprecationWarning outside of scripts.
    """
    message = f"{old} is now called {new}. The old name will be removed."
    warnings.warn(message, FutureWarning, stacklevel=3)
