"""A model as a folder: written whole or not at all, sealed with sums, verified on loading."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tfx_transformer import files, json_files
from tfx_transformer.errors import InputError
from tfx_transformer.renamed import old_names
from tfx_transformer.text.prompts import MAX_TEMPLATE_BYTES
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.tools import read_tools

try:
    import fcntl
except ImportError:  # Windows: see `_locked`
    fcntl = None

if not TYPE_CHECKING:  # a checker that sees it accepts every name
    __getattr__ = old_names(__name__, {"whole": "consistent_read"})

Read = TypeVar("Read", bound=Callable[..., Any])

FORMAT = 1
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CHAT_TEMPLATE = "chat_template.jinja"
TOOLS = "tools.json"
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
MEDIAPIPE = "model.mediapipe.tflite"
SUMS = "SHA256SUMS"
# Every file that may be opened to read a tokenizer: our own, a checkpoint's, Marian's.
TOKENIZER_FILES = (
    TOKENIZER,
    CHAT_TEMPLATE,
    TOOLS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "source.spm",
    "target.spm",
    "vocab.json",
)

# Left in a folder by git and `hf download`: not part of a bundle, and never read here.
_TOOLS = (".git", ".gitattributes", ".cache")

# Left by `litert-lm run` next to the model: not part of a bundle, and never read here.
_CACHE = ".xnnpack_cache"

# Ending of temporary folders: `.<name>-<8 hexadecimal digits>.writing`, with a `.lock` next to it.
_UNFINISHED = ".writing"

# Seconds that readers and writers of a bundle wait for each other, and between two attempts; most
# attempts to read a bundle that is replaced meanwhile.
_PATIENCE = 30.0
_PAUSE = 0.005
_TRIES = 20

_MAX_CONFIG_BYTES = 10 * 1024 * 1024
_MAX_SUMS_BYTES = 1024 * 1024

_MAX_TEXT_COLUMNS = 1000


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_object(value: Any) -> bool:
    return value is None or isinstance(value, dict)


# Entries of `config.json` besides task and architecture: a check, and what it expects.
_DETAILS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "text_columns": (
        lambda value: type(value) is int and 0 < value <= _MAX_TEXT_COLUMNS,
        f"a whole number from 1 to {_MAX_TEXT_COLUMNS}",
    ),
    "columns": (_is_list_of_texts, "a list of names"),
    "tools": (_is_list_of_texts, "a list of names"),
    "labels": (lambda value: value is None or _is_list_of_texts(value), "a list of names"),
    "example": (lambda value: isinstance(value, str) or _is_list_of_texts(value), "a text"),
    "scores": (_is_object, "an object"),
    "data": (_is_object, "an object"),
    "settings": (_is_object, "an object"),
    "litertlm": (_is_object, "an object"),
    "mediapipe": (_is_object, "an object"),
    "int4": (_is_object, "an object"),
    "quantization_aware": (_is_object, "an object"),
    "drafts": (lambda value: isinstance(value, bool), "true or false"),
    "verified": (
        lambda value: _is_object(value) and all(map(_is_object, (value or {}).values())),
        "an object of objects",
    ),
}

# Files that may run code in programs that open them. Nothing here reads them; bundles have none.
_CODE = (".keras", ".h5", ".hdf5", ".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".npz")


@contextlib.contextmanager
def writing(path: str | os.PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an error.

    Its files are hashed into `SHA256SUMS` and flushed to disk, and the folder is renamed. So other
    processes see the whole bundle or none of it, and of a replaced bundle the old or the new one.
    The remains of a process that was killed while it wrote there are removed first.

    Raises:
        InputError: `path` exists and `overwrite` is False, even if it was made while the block ran;
            or its folder cannot be written.
    """
    path = Path(path)
    with _temporary(path) as folder:
        check_place(path, overwrite)
        yield folder
        _seal(folder)
        _publish(folder, path, lambda: check_place(path, overwrite))


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield an empty hidden folder next to `path`, which is removed at the end. A lock next to it
    shows that its writer is alive."""
    place = Path(os.path.abspath(path))
    if not place.name:
        raise _exists(path)
    folder = place.with_name(f".{place.name}-{secrets.token_hex(4)}{_UNFINISHED}")
    lock = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place)
        lock = files.Lock(_lock_of(folder)).hold()
        folder.mkdir(mode=0o700)
    except OSError as error:
        if lock is not None:
            lock.release()
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield folder
    finally:
        _remove(folder)
        lock.release()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name.removesuffix(_UNFINISHED) + ".lock")


def _remove_abandoned(path: Path) -> None:
    """Remove what dead writers of a bundle left: temporary folders with a lock that nobody holds.
    A bundle that was moved away for a new one is moved back if the new one is not there."""
    name = re.compile(re.escape(f".{path.name}-") + r"[0-9a-f]{8}\.lock")
    for file in path.parent.iterdir():
        if not name.fullmatch(file.name):
            continue
        try:
            lock = files.Lock(file).hold()
        except (files.Held, OSError):  # its writer is alive, or the file belongs to another user
            continue
        folder = file.with_name(file.name.removesuffix(".lock") + _UNFINISHED)
        if not path.exists() and _replaced_folder(folder).is_dir():
            os.rename(_replaced_folder(folder), path)
        _remove(folder)
        lock.release()


def _remove(folder: Path) -> None:
    """Remove a temporary folder, and the bundle that was moved away for it."""
    for left in (folder, _replaced_folder(folder)):
        shutil.rmtree(left, ignore_errors=True)  # does not follow links


def _replaced_folder(folder: Path) -> Path:
    return folder.with_name(folder.name + "-old")


def _seal(folder: Path, known: Mapping[tuple, str] | None = None) -> None:
    """Write the sums of a folder and make it readable for all users; known: see `_write_sums`."""
    _write_sums(folder, known or {})
    folder.chmod(0o755)  # temporary folders and safetensors are readable for the owner only
    for name in _files(folder):
        (folder / name).chmod(0o644)


def _publish(folder: Path, path: Path, check: Callable[[], None]) -> None:
    """Move a folder to its place; a bundle there is removed if `check` raises no error."""
    try:
        os.rename(folder, path)  # refuses to replace anything but an empty folder
    except OSError:
        if not os.path.lexists(path):
            raise
        with _locked(path, exclusive=True):
            check()
            if not files.exchange(folder, path):
                os.rename(path, _replaced_folder(folder))
                os.rename(folder, path)
    files.sync(path.parent)


def consistent_read(read: Read) -> Read:
    """Return a function that reads the bundle at its first argument, `path`, from one version, even
    if the bundle is replaced meanwhile.

    Writers wait for it, see `_locked`; if they did not, it reads again.
    """

    @functools.wraps(read)
    def reading(path, *arguments, **options):
        for last in [False] * (_TRIES - 1) + [True]:
            with _locked(Path(path)):
                before = _identity(path)
                try:
                    result = read(path, *arguments, **options)
                except Exception:
                    if last or (_identity(path) == before and not _is_moving(path, before)):
                        raise
                else:
                    if last or _identity(path) == before:
                        return result
            time.sleep(_PAUSE)

    return cast(Read, reading)


def _identity(path: str | os.PathLike) -> tuple[int, ...] | None:
    """Return numbers that identify the version of a bundle at a path; None: there is no bundle."""
    try:
        folder, sums = os.stat(path), os.stat(Path(path, SUMS))
    except OSError:
        return None
    return folder.st_dev, folder.st_ino, sums.st_ino, sums.st_mtime_ns


def _is_moving(path: str | os.PathLike, identity: tuple[int, ...] | None) -> bool:
    """Return True if a missing bundle was moved away for a new one, on systems that cannot exchange
    folders."""
    place = Path(os.path.abspath(path))
    if identity is not None or not place.parent.is_dir():
        return False
    return any(
        name.startswith(f".{place.name}-") and name.endswith(f"{_UNFINISHED}-old")
        for name in os.listdir(place.parent)
    )


@contextlib.contextmanager
def _locked(path: Path, exclusive: bool = False) -> Iterator[None]:
    """Lock a bundle against writers, or with `exclusive` against readers too, in the block.

    It waits at most `_PATIENCE` seconds for others, then continues. Where folders cannot be locked
    (Windows, some network file systems) it does not wait.
    """
    descriptor, end = None, time.monotonic() + _PATIENCE
    kind = fcntl and (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    try:
        while kind:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            while time.monotonic() < end:
                try:
                    fcntl.flock(descriptor, kind)
                except BlockingIOError:
                    time.sleep(_PAUSE)
                else:
                    break
            if time.monotonic() >= end or os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
            os.close(descriptor)  # the bundle was replaced during the wait
            descriptor = None
    except OSError:  # nothing is there, or it cannot be locked
        pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def check_place(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Raise if a bundle may not be written at a path.

    Raises:
        InputError: it exists and `overwrite` is False, or it is neither a bundle nor an empty
            folder.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise _exists(path)
    is_bundle = (path / CONFIG).is_file()
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.is_symlink() or (path.exists() and not is_bundle and not is_empty):
        raise InputError(
            f"{path} is something other than a bundle, so it is not replaced.\n"
            "  Choose another name."
        )


@consistent_read
def _copy(
    path: Path, folder: Path, opens: Iterable[str] | None = None
) -> tuple[tuple[int, ...] | None, dict[tuple, str]]:
    """Verify a bundle and copy it into a folder, which is emptied first; opens: see `verify`.

    Returns: the identity of the bundle, and the digests of the copies by `_content`.
    """
    for left in folder.iterdir():  # from a version that was replaced
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    verify(path, opens)
    known = {}
    for file, digest in listed_sums(path).items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path / file, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(path / file, target)
        known[_content(target)] = digest
    return _identity(path), known


def _exists(path: Path) -> InputError:
    return InputError(
        f"{path} exists already.\n  Choose another name, or pass --overwrite to replace it."
    )


@contextlib.contextmanager
def updating(path: str | os.PathLike, opens: Iterable[str] | None = None) -> Iterator[Path]:
    """Yield a temporary copy of a bundle (of hard links if possible) that replaces it at the end.

    Files in it must be replaced, not changed in place.

    Args:
        path: the bundle's folder.
        opens: names of the files that will be opened. Only these are hashed; the others keep their
            sums, so that a damaged file is found when it is opened. None: all files.

    Raises:
        InputError: see `verify`; or another process replaced the bundle while the block ran.
    """
    path = Path(path)
    with _temporary(path) as folder:
        before, known = _copy(path, folder, opens)

        def check() -> None:
            if _identity(path) != before:
                raise InputError(
                    f"{path} was replaced while a file was added; the new bundle is unchanged.\n"
                    "  Repeat the command."
                )

        yield folder
        _seal(folder, known)
        _publish(folder, path, check)


@contextlib.contextmanager
def copy_without(path: str | os.PathLike, *names: str) -> Iterator[Path]:
    """Yield a temporary copy of a bundle without some files, with new sums."""
    with _temporary(Path(path)) as folder:
        _, known = _copy(Path(path), folder)
        for name in names:
            (folder / name).unlink(missing_ok=True)
        _seal(folder, known)
        yield folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `config.json`; raise ValueError for NaN or infinity, which JSON does not have."""
    text = json.dumps(config, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    files.write(folder / CONFIG, text)


@consistent_read
def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Return the `config.json` of a bundle.

    Raises:
        InputError: there is no bundle, it has another format, or the configuration is damaged.
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
        raise InputError(f"{file} is not JSON that can be read: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), dict):
        raise InputError(f"{file} is not a configuration of a bundle: 'architecture' is missing.")
    if not isinstance(config.get("task", ""), str):
        raise InputError(f"{file} is not a configuration of a bundle: 'task' is not a name.")
    if config.get("format") != FORMAT:
        raise InputError(
            f"{file}: format {config.get('format')!r}, this version reads format {FORMAT}.\n"
            "  Update tfx_transformer."
        )
    for name, (is_right, expected) in _DETAILS.items():
        if name in config and not is_right(config[name]):
            shown = repr(config[name])[:40]
            raise InputError(f"{file}: {name!r} is {shown}.\n  Expected {expected}.")
    return config


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write `tokenizer.json`; for a checkpoint's tokenizer `tokenizer_config.json` too (for
    Marian's its own files); for a chat model `chat_template.jinja`; if it calls tools,
    `tools.json`."""
    tokenizer.save(folder / TOKENIZER)
    if tokenizer.chat_template is not None:
        files.write(folder / CHAT_TEMPLATE, tokenizer.chat_template)
    if tokenizer.tools is not None:
        files.write(folder / TOOLS, tokenizer.tools.to_json())


@consistent_read
def read_tokenizer(path: str | os.PathLike, vocabulary_size: int | None = None) -> Tokenizer:
    """Return the tokenizer of a bundle, with its chat template and its tools.

    Raises:
        InputError: one of the files cannot be read, or the tokenizer does not have
            `vocabulary_size` tokens; a checkpoint's tokenizer may have fewer.
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
    if Path(path, TOOLS).is_file():
        tokenizer.tools = read_tools(Path(path, TOOLS))
    size = tokenizer.vocabulary_size
    padded = tokenizer.settings is not None and vocabulary_size is not None
    if vocabulary_size not in (None, size) and not (padded and size < vocabulary_size):
        raise InputError(
            f"{path}: {TOKENIZER} has {size:,} tokens, the architecture in "
            f"{CONFIG} {vocabulary_size:,}."
        )
    return tokenizer


@consistent_read
def verify(path: str | os.PathLike, opens: Iterable[str] | None = None) -> None:
    """Check a bundle against `SHA256SUMS`: the names of its files, and the sums of some or all.

    Args:
        path: the bundle's folder.
        opens: names of the files that will be opened, or of folders such as "saved_model" for all
            files in them; names that the bundle does not have are ignored. Only these files are
            hashed. None: all files.

    Raises:
        InputError: a file is missing, unlisted, changed, a link or device, or of a kind that may
            hold code; the message names it. A file outside the folder that `SHA256SUMS` lists
            counts as missing and is never opened.
    """
    path = Path(path)
    expected = listed_sums(path)
    chosen = None if opens is None else set(opens)
    for name, digest in expected.items():
        is_opened = chosen is None or name in chosen or name.partition("/")[0] in chosen
        if is_opened and _digest(path / name) != digest:
            raise InputError(
                f"{path}: {name} does not have the checksum in {SUMS}.\n"
                "  The file was changed or damaged; copy the folder again."
            )


def listed_sums(path: Path) -> dict[str, str]:
    """Return name -> digest of each file of a bundle, from `SHA256SUMS`, without comparing sums.

    Raises:
        InputError: see `verify`.
    """
    if not (path / CONFIG).is_file():
        raise InputError(_no_bundle(path))
    present = set(_files(path))
    for name in sorted(present):
        if name.lower().endswith(_CODE):
            raise InputError(
                f"{path}: {name} may hold code that runs when it is opened; bundles hold none.\n"
                "  The bundle was changed. Remove the file only if you trust the rest."
            )
    if not (path / SUMS).is_file():
        raise InputError(f"{path}: {SUMS} is missing, so the bundle cannot be verified.")
    if (path / SUMS).stat().st_size > _MAX_SUMS_BYTES:
        raise InputError(f"{path}: {SUMS} is larger than any list of sums (1 MiB).")
    expected: dict[str, str] = {}
    for line in (path / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if name in expected:
            raise InputError(f"{path}: {SUMS} names {name} twice.\n  Copy the whole folder again.")
        expected[name] = digest
    for name in sorted(present ^ expected.keys()):
        problem = "is missing" if name in expected else f"is not listed in {SUMS}"
        raise InputError(f"{path}: {name} {problem}.\n  Copy the whole folder again.")
    return expected


_EXPECTED = "\n  Expected the folder of a bundle, such as saved_models/topics."


def _no_bundle(path: Path) -> str:
    beside = sorted(p.parent.name for p in path.parent.glob(f"*/{CONFIG}"))
    there = f"\n  Bundles in {path.parent}: {', '.join(beside)}." if beside else _EXPECTED
    problem = f"it has no {CONFIG}" if path.is_dir() else "there is no such folder"
    problem = "it is a file" if path.is_file() else problem
    return f"{path} is not a bundle: {problem}.{there}"


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files in a folder such as "saved_model"."""
    return sum(file.stat().st_size for file in [place, *place.rglob("*")] if file.is_file())


def sizes(path: str | os.PathLike) -> dict[str, int]:
    """Return the size in bytes of each file of a bundle, by its name in the folder."""
    path = Path(path)
    return {name: (path / name).stat().st_size for name in sorted([*_files(path), SUMS])}


def _files(path: Path) -> list[str]:
    """Return the names of all files in a bundle, except the sums, caches and the files of git and
    the Hub; raise InputError for a link or device."""
    names = []
    for folder, folders, names_here in os.walk(path):
        if Path(folder) == path:
            folders[:] = [name for name in folders if name not in _TOOLS]
            names_here = [name for name in names_here if name not in _TOOLS]
        for name in [*folders, *names_here]:
            full = Path(folder, name)
            if full.is_symlink() or not (full.is_dir() or full.is_file()):
                what = "a link" if full.is_symlink() else "not a regular file"
                raise InputError(f"{path}: {full.relative_to(path)} is {what}; bundles hold none.")
        names += [Path(folder, name).relative_to(path).as_posix() for name in names_here]
    return sorted(name for name in names if name != SUMS and not name.endswith(_CACHE))


def _write_sums(folder: Path, known: Mapping[tuple, str]) -> None:
    """Write `SHA256SUMS`; only files that are not in `known` are hashed.

    Args:
        known: digests of files that were verified, by `_content`.
    """
    names = _files(folder)
    sums = {name: known.get(_content(folder / name)) or _digest(folder / name) for name in names}
    for name in names:
        files.sync(folder / name)
    files.write(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def _content(path: Path) -> tuple[int, ...]:
    """Return numbers that change with a file's content, without reading the file."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
