"""Build hooks that give the runtime's wheel the sources, version and requirements of the whole."""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PACKAGE = "tfx_transformer"


class RuntimeMetadata(MetadataHookInterface):
    """Metadata of the whole wheel, with the requirements that pyproject.toml names here."""

    def update(self, metadata: dict[str, Any]) -> None:
        whole = tomllib.loads(Path(self.root, "../pyproject.toml").read_text("utf-8"))["project"]
        for field in ("version", "classifiers", "license", "requires-python", "scripts"):
            metadata[field] = whole[field]
        found = {_name(requirement): requirement for requirement in whole["dependencies"]}
        metadata["dependencies"] = [found[name] for name in self.config["dependencies"]]
        extras = {
            extra: [found[name] for name in names] for extra, names in self.config["extras"].items()
        }
        shared = ("forms", "search", "serve")
        extras |= {extra: whole["optional-dependencies"][extra] for extra in shared}
        metadata["optional-dependencies"] = extras


class RuntimeFiles(BuildHookInterface):
    """The files of the package, without the folders of `installation.LEFT_OUT`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        package = Path(self.root, "..", PACKAGE).resolve()
        left_out = runpy.run_path(str(package / "installation.py"))["LEFT_OUT"]
        for file in sorted(package.rglob("*")):
            place = file.relative_to(package)
            if file.is_file() and file.suffix != ".pyc" and place.parts[0] not in left_out:
                build_data["force_include"][str(file)] = f"{PACKAGE}/{place.as_posix()}"


def _name(requirement: str) -> str:
    """Return the name of the package that a requirement such as "numpy>=2.4" is about."""
    return re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0]
