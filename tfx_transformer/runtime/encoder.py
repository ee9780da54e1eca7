"""Encoder-only models in LiteRT: one call from token ids or pixels to logits or a vector."""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Sequence

import numpy as np

from tfx_transformer import flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.runtime import interface
from tfx_transformer.runtime.signature import Signature, compile_file

# The signature of an image classifier that gives vectors instead of logits.
_FEATURES = "features_1"


class EncoderEngine:
    """Runs the signatures `run_<rows>x<length>`, or `run_<rows>` for images, of a TFLite file.

    Args:
        file: a TFLite file that `export.litert` wrote.
        config: of the model.
        threads: threads of LiteRT; None: one per core that this process may use.
        width: of the output; None: the classes of a classifier, `hidden_dim` of an embedder.
        each_token: True if each token has an output, as in a tagger.
    """

    def __init__(
        self,
        file: str | os.PathLike,
        config: TransformerConfig,
        threads: int | None = None,
        width: int | None = None,
        each_token: bool = False,
    ) -> None:
        self.file, self.config = file, config
        self.model = compile_file(file, threads)
        width = width or config.num_classes or config.hidden_dim
        longest = 0 if config.image_size else config.max_sequence_length
        sizes = self._sizes(longest)
        # Signatures of one row must be there for each length, and for the longest.
        needed = {*sizes, (1, longest), *((1, length) for _, length in sizes)}
        interface.check(
            file,
            self.model.signatures,
            {
                _name(*size): interface.encoder(config, width, *size, each_token)
                for size in sorted(needed)
            },
        )
        # For each length, the numbers of rows that run together, largest first.
        self._heights: dict[int, list[int]] = {}
        for rows, length in sorted(sizes, reverse=True):
            self._heights.setdefault(length, []).append(rows)
        self._lengths = sorted(self._heights)
        self._ready: dict[tuple[int, int], _Ready] = {}
        self._features: _Ready | None = None

    def _sizes(self, longest: int) -> list[tuple[int, int]]:
        """Return rows and length of the file's signatures; the length is 0 for images."""
        if not longest:
            return [(rows, 0) for rows in self.model.numbered("run_")]
        found = (
            re.fullmatch(r"run_([1-9]\d{0,4})x([1-9]\d{0,6})", n) for n in self.model.signatures
        )
        sizes = [(int(match[1]), int(match[2])) for match in found if match]
        return [size for size in sizes if size[1] <= longest]

    def run_ids(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """See `prediction.text.TextEngine`."""
        longest = max(map(len, rows))
        length = self._lengths[bisect.bisect_left(self._lengths, longest)]
        padding = [self.config.padding_id] * length
        table = np.array([[*ids, *padding[len(ids) :]] for ids in rows], "int32")
        return self._run_all(table, length)

    def run_images(self, images: np.ndarray) -> np.ndarray:
        """See `prediction.image.ImageEngine`."""
        return self._run_all(images, 0)

    def run_features(self, images: np.ndarray) -> np.ndarray:
        """See `prediction.image.ImageEngine`."""
        if _FEATURES not in self.model.signatures:
            raise InputError(
                f"{self.file} has no signature {_FEATURES}, so it gives no vectors.\n"
                "  Export the bundle again: tfx-transformer export BUNDLE --to litert\n"
                "  (float32 or int8; a full_int8 file has only labels)."
            )
        if self._features is None:
            wanted = {_FEATURES: interface.features(self.config)}
            interface.check(self.file, self.model.signatures, wanted)
            self._features = self._prepare(_FEATURES)
        return np.concatenate([self._features.run(image[None]) for image in images])

    def _run_all(self, batch: np.ndarray, length: int) -> np.ndarray:
        results, start, heights = [], 0, self._heights[length]
        while start < len(batch):
            left = len(batch) - start
            # The largest signature with more than half of its rows in use.
            height = next(height for height in heights if height == 1 or left > height // 2)
            part = batch[start : start + height]
            count = len(part)
            if count < height:
                part = np.pad(part, [(0, height - count), *[(0, 0)] * (batch.ndim - 1)])
            results.append(self._run((height, length), part)[:count])
            start += height
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _run(self, size: tuple[int, int], batch: np.ndarray) -> np.ndarray:
        if size not in self._ready:
            self._ready[size] = self._prepare(_name(*size))
        return self._ready[size].run(batch)

    def _prepare(self, name: str) -> _Ready:
        with flags.silence():  # the first buffer starts LiteRT's buffer environment
            return _Ready(Signature(self.model, name))


def _name(rows: int, length: int) -> str:
    """Return the name of a signature; length 0: of images."""
    return f"run_{rows}x{length}" if length else f"run_{rows}"


class _Ready:
    """A signature with the buffers of its only input and output."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        (source,), (self._name,) = signature.inputs, signature.outputs
        self._inputs = {source: signature.input_buffer(source)}
        self._input = self._inputs[source]
        self._output = signature.output_buffer(self._name)

    def run(self, batch: np.ndarray) -> np.ndarray:
        with self._signature.model.running():
            self._input.write(batch)
        self._signature.invoke(self._inputs, {self._name: self._output})
        return self._signature.read(self._name, self._output)
