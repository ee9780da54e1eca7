"""The wheel that is installed: the whole `tfx-transformer`, or `tfx-transformer-runtime`.

Both hold the package `tfx_transformer`, from the same sources; the runtime leaves out the
folders that need TensorFlow.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_NAMES = ("tfx-transformer", "tfx-transformer-runtime")

# Folders that need TensorFlow, Keras or Matplotlib; `runtime_wheel/hatch_build.py` reads this.
LEFT_OUT = ("export", "layers", "models", "pictures", "training")


def is_complete() -> bool:
    """Return True if the whole package is installed, not only the runtime."""
    return all((_PACKAGE / folder).is_dir() for folder in LEFT_OUT)


def leaves_out(module: str) -> bool:
    """Return True if a module, by its dotted name, is one that only the whole package has."""
    package, _, name = module.partition(".")
    return package == _PACKAGE.name and name.partition(".")[0] in LEFT_OUT and not is_complete()


def needs_all(subject: str) -> str:
    """Return the message about a verb or module that the runtime lacks, with the remedy."""
    return (
        f"{subject} is not in tfx-transformer-runtime, the part without TensorFlow.\n"
        "  pip uninstall tfx-transformer-runtime\n"
        "  pip install tfx-transformer"
    )


def requirement(extra: str) -> str:
    """Return what `pip install` takes for an extra of the installed wheel, in quotes.

    >>> requirement("serve")
    '"tfx-transformer[serve]"'
    """
    return f'"{_NAMES[0] if is_complete() else _NAMES[1]}[{extra}]"'


def check_versions() -> None:
    """Raise if both wheels are installed and their files do not fit together.

    The two write the same files, so the one that was installed last has replaced the files of the
    other. That is harmless if both are of one version.

    Raises:
        InputError: the versions differ, or the runtime is found before an editable installation.
    """
    versions = {}
    for folder in _PACKAGE.parent.glob("tfx_transformer*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        versions[name.replace("_", "-")] = version
    if not versions.keys() >= set(_NAMES):
        return
    if len(set(versions.values())) > 1 or not is_complete():
        from tfx_transformer.errors import InputError

        both = " and ".join(f"{name} {versions[name]}" for name in _NAMES)
        raise InputError(
            f"{both} are installed in one environment, and share their files.\n"
            "  pip uninstall tfx-transformer-runtime\n"
            "  pip install --force-reinstall --no-deps tfx-transformer"
        )
