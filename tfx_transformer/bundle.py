"""A model as a folder: written at once or not at all, sealed with sums, verified on loading."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfx_transformer import json_files
from tfx_transformer.errors import InputError
from tfx_transformer.text.prompts import MAX_TEMPLATE_BYTES
from tfx_transformer.text.tokenizer import Tokenizer

FORMAT = 1
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
WEIGHTS = "model.safetensors"
SAVED_MODEL = "saved_model"
TRANSFORMERS = "transformers"
LITERT = {
    "float32": "model.tflite",
    "int8": "model.int8.tflite",
    "int4": "model.int4.tflite",
    "full_int8": "model.full_int8.tflite",
}
LITERTLM = "model.litertlm"
SUMS = "SHA256SUMS"

# What `litert-lm run` leaves beside the model it runs: no part of a bundle, and never read here.
_CACHE = ".xnnpack_cache"

_MAX_CONFIG_BYTES = 10 * 1024 * 1024
_MAX_SUMS_BYTES = 1024 * 1024

# What other programs run when they open it. Nothing here reads such files, and a bundle has none.
_CODE = (".keras", ".h5", ".hdf5", ".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".npz")


@contextlib.contextmanager
def writing(path: str | os.PathLike, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends without an error.

    Its files are summed into `SHA256SUMS`, flushed to disk, and the folder renamed: whoever looks
    sees the whole bundle or none of it.

    Raises:
        InputError: `path` exists and `overwrite` is False, or its folder cannot be written.
    """
    path = Path(path)
    check_place(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield folder
        _write_sums(folder)
        folder.chmod(0o755)  # mkdtemp and safetensors write for the owner only
        for name in _files(folder):
            (folder / name).chmod(0o644)
        if path.exists():
            old = folder.with_name(folder.name + "-old")
            os.rename(path, old)
            os.rename(folder, path)
            shutil.rmtree(old)
        else:
            os.rename(folder, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_place(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Refuses a path where no bundle may be written.

    Raises:
        InputError: it exists and `overwrite` is False, or it is anything but a bundle or an empty
            folder.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists already.\n  Choose another name, or pass --overwrite to replace it."
        )
    is_bundle = (path / CONFIG).is_file()
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.is_symlink() or (path.exists() and not is_bundle and not is_empty):
        raise InputError(
            f"{path} is something other than a bundle, so it is not replaced.\n"
            "  Choose another name."
        )


@contextlib.contextmanager
def updating(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary copy of a bundle (hard links where there are any) that replaces it at the end.

    Files in it must be replaced, not changed in place.
    """
    path = Path(path)
    verify(path)
    with writing(path, overwrite=True) as folder:
        for file in _files(path):
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path / file, target)
            except OSError:  # a file system without hard links
                shutil.copyfile(path / file, target)
        yield folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes `config.json`; a value that JSON has no number for (NaN) is an error."""
    text = json.dumps(config, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    temporary = folder / (CONFIG + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, folder / CONFIG)


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """The `config.json` of a bundle.

    Raises:
        InputError: no bundle there, one of a newer format, or text in it that no file can hold.
    """
    path = Path(path)
    file = path / CONFIG
    if not file.is_file():
        raise InputError(_no_bundle(path))
    if file.stat().st_size > _MAX_CONFIG_BYTES:
        raise InputError(f"{file} is larger than any configuration (10 MiB).")
    try:
        config = json_files.parse(file.read_text(encoding="utf-8"), file)
        json.dumps(config, ensure_ascii=False).encode()  # JSON can spell half a character
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON that can be read: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), dict):
        raise InputError(f"{file} is no configuration of a bundle: 'architecture' is missing.")
    if not isinstance(config.get("task", ""), str):
        raise InputError(f"{file} is no configuration of a bundle: 'task' is no name.")
    if config.get("format") != FORMAT:
        raise InputError(
            f"{file}: format {config.get('format')!r}, this version reads format {FORMAT}.\n"
            "  Update tfx_transformer."
        )
    return config


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Writes `tokenizer.json`, for a checkpoint's `tokenizer_config.json` too (for Marian's its own
    files), and for a chat model `chat_template.jinja`."""
    tokenizer.save(folder / TOKENIZER)
    if tokenizer.chat_template is not None:
        (folder / CHAT_TEMPLATE).write_text(tokenizer.chat_template, encoding="utf-8")


def read_tokenizer(path: str | os.PathLike, vocabulary_size: int | None = None) -> Tokenizer:
    """The tokenizer of a bundle, with its chat template.

    Raises:
        InputError: one of the files cannot be read, or the tokenizer has another size. The model of
            a checkpoint may have room for more tokens than its tokenizer has.
    """
    tokenizer = Tokenizer.load(Path(path, TOKENIZER))
    file = Path(path, CHAT_TEMPLATE)
    if file.is_file():
        if file.stat().st_size > MAX_TEMPLATE_BYTES:
            raise InputError(f"{file} is larger than any chat template (64 KiB).")
        try:
            tokenizer.chat_template = file.read_text(encoding="utf-8")
            tokenizer.chat_template_file = file
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: byte {error.start} is not UTF-8.") from error
    size = tokenizer.vocabulary_size
    padded = tokenizer.settings is not None and vocabulary_size is not None
    if vocabulary_size not in (None, size) and not (padded and size < vocabulary_size):
        raise InputError(
            f"{path}: {TOKENIZER} has {size:,} tokens, the architecture in "
            f"{CONFIG} {vocabulary_size:,}."
        )
    return tokenizer


def verify(path: str | os.PathLike) -> None:
    """Checks every file of a bundle against `SHA256SUMS`.

    Raises:
        InputError: a file is missing, unlisted, changed, a link or device, or of a kind that holds
            code; the message names it. What `SHA256SUMS` lists outside the folder counts as missing
            and is never opened.
    """
    path = Path(path)
    if not (path / CONFIG).is_file():
        raise InputError(_no_bundle(path))
    present = set(_files(path))
    for name in sorted(present):
        if name.lower().endswith(_CODE):
            raise InputError(
                f"{path}: {name} may hold code that runs when it is opened; bundles hold none.\n"
                "  Remove it only if you trust the rest: the bundle is not as it was written."
            )
    if not (path / SUMS).is_file():
        raise InputError(f"{path}: {SUMS} is missing, so the bundle cannot be verified.")
    if (path / SUMS).stat().st_size > _MAX_SUMS_BYTES:
        raise InputError(f"{path}: {SUMS} is larger than any list of sums (1 MiB).")
    expected = {}
    for line in (path / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        expected[name] = digest
    for name in sorted(present ^ expected.keys()):
        problem = "is missing" if name in expected else f"is not listed in {SUMS}"
        raise InputError(f"{path}: {name} {problem}.\n  Copy the whole folder again.")
    for name, digest in expected.items():
        if _digest(path / name) != digest:
            raise InputError(
                f"{path}: {name} does not have the checksum in {SUMS}.\n"
                "  The file was changed or damaged; copy the folder again."
            )


def _no_bundle(path: Path) -> str:
    beside = sorted(p.parent.name for p in path.parent.glob(f"*/{CONFIG}"))
    there = f"\n  Bundles in {path.parent}: {', '.join(beside)}." if beside else ""
    return f"{path} is no bundle: it has no {CONFIG}.{there}"


def _files(path: Path) -> list[str]:
    """Names of all files below a bundle, except the sums and caches; a link or device is
    refused."""
    names = []
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files]:
            full = Path(folder, name)
            if full.is_symlink() or not (full.is_dir() or full.is_file()):
                what = "a link" if full.is_symlink() else "no regular file"
                raise InputError(f"{path}: {full.relative_to(path)} is {what}; bundles hold none.")
        names += [Path(folder, name).relative_to(path).as_posix() for name in files]
    return sorted(name for name in names if name != SUMS and not name.endswith(_CACHE))


def _write_sums(folder: Path) -> None:
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / SUMS).unlink(missing_ok=True)  # may be a hard link of the bundle's before
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    for name in [*_files(folder), SUMS]:
        _sync(folder / name)
    _sync(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
