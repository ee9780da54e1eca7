"""A server over `runtime`: one process for bundles of every task, without TensorFlow.

It needs the packages of the extra `serve`: Starlette and uvicorn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfx_transformer.serve.limits import Limits

if TYPE_CHECKING:
    from tfx_transformer.serve.app import create_app as create_app
    from tfx_transformer.serve.server import serve as serve
    from tfx_transformer.serve.service import Service as Service

__all__ = ["Limits", "Service", "create_app", "serve"]

_MODULES = {"create_app": "app", "serve": "server", "Service": "service"}


def __getattr__(name: str) -> Any:
    """Import what needs Starlette only where it is used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
