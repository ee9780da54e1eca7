"""The verbs around recipes: run, list, copy."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfx_transformer import resources
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.errors import InputError


def recipe_main(name: str) -> Callable[..., Any]:
    """Return the `main` of a recipe, given its name or its path."""
    path = Path(name) if name.endswith(".py") else resources.recipe_path(name)
    if not path.is_file():
        raise InputError(f"there is no recipe {path}.\n  See: tfx-transformer recipes")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that its docstring can be found
    spec.loader.exec_module(module)
    return module.main


def run_without_name(recipe: str, /) -> None:
    """Train a model by a recipe: tfx-transformer recipes lists them, and tfx-transformer run RECIPE
    --help explains the flags of one.

    Args:
        recipe: Name of a recipe, such as text_classification, or the path of your copy of one.
    """
    raise InputError("name a recipe.\n  See: tfx-transformer recipes")


def list_recipes() -> dict[str, Any]:
    """List the recipes."""
    rows = []
    for path in resources.recipes():
        purpose = path.read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
        rows.append({"recipe": path.stem, "purpose": purpose})
        print("\n".join(wrapped(f"{path.stem:<24} {purpose}", COLUMNS, " " * 25)))
    return {"recipes": rows}


def copy_recipe(recipe: str, /) -> dict[str, str]:
    """Put a copy of a recipe into this folder, to edit.

    Args:
        recipe: Name of the recipe.
    """
    source = resources.recipe_path(recipe)
    target = Path(source.name)
    if target.exists():
        raise InputError(f"{target} exists already.\n  Rename it, or copy in another folder.")
    shutil.copyfile(source, target)
    print(f"{target}: edit it, then run  python {target}")
    return {"file": str(target)}
