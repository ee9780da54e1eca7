"""Hugging Face folders: config.json, and safetensors that are read tensor by tensor."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.json_files import MAX_BYTES, parse, read_object
from tfx_transformer.models.pretrained.refusals import no_weights, refuse_quantized
from tfx_transformer.models.pretrained.sentence import STEM

_DTYPES = {
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("int64"),
    "I32": np.dtype("int32"),
    "U8": np.dtype("uint8"),
    "BOOL": np.dtype("bool"),
}

# Types of quantized numbers.
_QUANTIZED = ("F8", "F6", "F4", "I8", "U16", "I16", "U32", "U64")


# As many as a NumPy array can have.
_MOST_DIMENSIONS = 64


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its numbers begin at byte `offset` of `file`."""

    file: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The count of its numbers."""
        return math.prod(self.shape)

    def first(self, count: int) -> StoredTensor:
        """Return the tensor of its first rows, or of all if it has fewer."""
        shape = (min(count, self.shape[0]), *self.shape[1:]) if self.shape else ()
        return dataclasses.replace(self, shape=shape)

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return its rows from `start` to `stop`; nothing else of the file is read."""
        if not self.shape:
            return np.fromfile(self.file, self.dtype, 1, offset=self.offset).reshape(())
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        row = math.prod(self.shape[1:])
        offset = self.offset + start * row * self.dtype.itemsize
        values = np.fromfile(self.file, self.dtype, (stop - start) * row, offset=offset)
        return values.reshape(stop - start, *self.shape[1:])


# A folder -> the tensors of each of its files of weights.
HeadersOf = Callable[[Path], Mapping[str, Mapping[str, StoredTensor]]]


class Checkpoint:
    """A folder that `save_pretrained` wrote; only the headers of the weights are read.

    Args:
        folder: has config.json and model.safetensors, or its shards and their index.
        config: configuration of the folder, by `read_config`; None: it is read.
        parts: folders of further layers, whose tensors' names begin with "sentence.0.", and so on.
        headers_of: reads the headers of a folder: `local_headers`, or for a repository on the hub
            `Repository.headers_of`.

    Attributes:
        config: config.json; for an image model with preprocessor_config.json as "preprocessor".
        tensors: `StoredTensor` by name.

    Raises:
        InputError: a file is missing, damaged or too large; or the weights have another form, such
            as a pickle, which is refused because reading it would run code.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        config: dict[str, Any] | None = None,
        parts: Sequence[Path] = (),
        headers_of: HeadersOf | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.config = read_config(self.folder) if config is None else config
        refuse_quantized(self.config, self.folder)
        self.tensors: dict[str, StoredTensor] = {}
        headers_of = headers_of or local_headers
        for stem, part in (("", self.folder), *((f"{STEM}{i}.", p) for i, p in enumerate(parts))):
            for file, tensors in headers_of(part).items():
                for name, tensor in tensors.items():
                    if stem + name in self.tensors:
                        raise InputError(f"{file}: {name} is in two files.")
                    self.tensors[stem + name] = tensor


def local_headers(folder: Path) -> dict[str, dict[str, StoredTensor]]:
    """Return the tensors of each file of weights in a folder, by the file's path.

    Raises:
        InputError: see `Checkpoint`.
    """
    return {str(file): read_header(file) for file in _weight_files(folder)}


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.is_file():
        names = read_object(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
            raise InputError(f"{index}: 'weight_map' is missing.")
        files = []
        for name in sorted(set(names.values())):
            if "/" in name or "\\" in name or not (folder / name).is_file():
                raise InputError(
                    f"{index}: the shard {name} is not in the folder.\n"
                    "  Download the whole checkpoint again."
                )
            files.append(folder / name)
        return files
    if single.is_file():
        return [single]
    raise no_weights(folder, (f.name for f in folder.iterdir()) if folder.is_dir() else ())


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of a folder, with preprocessor_config.json as "preprocessor" if any."""
    config = read_object(folder / "config.json")
    if (folder / "preprocessor_config.json").is_file():
        config["preprocessor"] = read_object(folder / "preprocessor_config.json")
    return config


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file: https://huggingface.co/docs/safetensors, "Format".

    Raises:
        InputError: the file is not a safetensors file or is cut off, or a tensor is outside it.
    """
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if size < 8 or not 2 <= length <= min(size - 8, MAX_BYTES):
            raise InputError(f"{file} is not a safetensors file, or the download was cut off.")
        return parse_header(file, start + stream.read(length), size)


def parse_header(file: Any, start: bytes, size: int | None = None) -> dict[str, StoredTensor]:
    """Return the tensors that the beginning of a safetensors file lists.

    Args:
        file: path of the file.
        start: its first bytes, with the whole header.
        size: bytes of the file; None: unknown.

    Raises:
        InputError: see `read_header`.
    """
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= min(len(start) - 8, MAX_BYTES):
        raise InputError(f"{file} is not a safetensors file, or the download was cut off.")
    try:
        header = parse(start[8 : 8 + length].decode("utf-8"), Path(file), unique=True)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not a safetensors file: {error}.") from error
    if not isinstance(header, dict):
        raise InputError(f"{file} is not a safetensors file: its header is not an object.")
    tensors = {}
    for name, facts in header.items():
        if name != "__metadata__":
            tensors[name] = _tensor(file, name, facts, 8 + length, size)
    _check_places(file, tensors, 8 + length, size)
    return tensors


def _check_places(
    file: Any, tensors: Mapping[str, StoredTensor], begin: int, size: int | None
) -> None:
    """Raise if tensors share bytes, or if bytes belong to no tensor, as the format demands."""
    places = ((t.offset, t.size * t.dtype.itemsize, name) for name, t in tensors.items())
    for offset, length, name in sorted(places):
        if offset != begin:
            problem = "overlaps another tensor" if offset < begin else "follows bytes of no tensor"
            raise InputError(f"{file}: {name} {problem}.\n  Download the file again.")
        begin += length
    if size is not None and begin != size:
        raise InputError(
            f"{file}: {size - begin:,} bytes belong to no tensor.\n  Download the file again."
        )


def _tensor(file: Any, name: str, facts: Any, begin: int, size: int | None) -> StoredTensor:
    kind = facts.get("dtype") if isinstance(facts, dict) else None
    if str(kind).startswith(_QUANTIZED):
        raise InputError(
            f"{file}: {name} is stored as {kind}: the weights are quantized, and cannot be read.\n"
            "  Take the checkpoint in float32, float16 or bfloat16 that it was made of."
        )
    try:
        dtype, shape = _DTYPES[facts["dtype"]], tuple(facts["shape"])
        first, last = facts["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, first, last))
        if len(shape) > _MOST_DIMENSIONS:
            raise ValueError(f"it has {len(shape)} dimensions")
        if not whole or last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError("its shape and its bytes differ")
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{file}: {name} cannot be read: {error}.") from error
    if size is not None and begin + last > size:
        raise InputError(
            f"{file}: {name} ends after the file, so the download was cut off.\n"
            "  Download the file again."
        )
    return StoredTensor(Path(file), begin + first, dtype, shape)
