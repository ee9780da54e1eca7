"""Encoder-only models in LiteRT: one call from token ids or pixels to logits or a vector."""

from __future__ import annotations

import bisect
import os
from collections.abc import Sequence

import numpy as np

from tfx_transformer import flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.runtime.signature import Signature, compile_file


class EncoderEngine:
    """Runs the signatures `run_<rows>x<length>`, or of images `run_<rows>`, of a TFLite file.

    Args:
        file: a TFLite file that `export.litert` wrote.
        config: of the model.
        threads: of LiteRT; None: one per core that this process may use.
    """

    def __init__(
        self, file: str | os.PathLike, config: TransformerConfig, threads: int | None = None
    ) -> None:
        self.model = compile_file(file, threads)
        self.config = config
        names = self.model.get_signature_list()
        sizes = [tuple(map(int, name.removeprefix("run_").split("x"))) for name in names]
        # Of each length ("" of images): how many rows run together, most first.
        self._heights: dict[str, list[int]] = {}
        for rows, *length in sorted(sizes, reverse=True):
            self._heights.setdefault(f"x{length[0]}" if length else "", []).append(rows)
        self._lengths = sorted({size[1] for size in sizes if len(size) > 1})
        self._ready: dict[str, _Ready] = {}

    def run_ids(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """See `prediction.text.TextEngine`."""
        longest = max(map(len, rows))
        length = self._lengths[bisect.bisect_left(self._lengths, longest)]
        padding = [self.config.padding_id] * length
        table = np.array([[*ids, *padding[len(ids) :]] for ids in rows], "int32")
        return self._run_all(table, f"x{length}")

    def run_images(self, images: np.ndarray) -> np.ndarray:
        """See `prediction.image.ImageEngine`."""
        return self._run_all(images, "")

    def _run_all(self, batch: np.ndarray, suffix: str) -> np.ndarray:
        results, start, heights = [], 0, self._heights[suffix]
        while start < len(batch):
            left = len(batch) - start
            # Many run together; so do few more than half of them, with the rest unused.
            height = next(height for height in heights if height == 1 or left > height // 2)
            part = batch[start : start + height]
            count = len(part)
            if count < height:
                part = np.pad(part, [(0, height - count), *[(0, 0)] * (batch.ndim - 1)])
            results.append(self._run(f"run_{height}{suffix}", part)[:count])
            start += height
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _run(self, name: str, batch: np.ndarray) -> np.ndarray:
        if name not in self._ready:
            with flags.muted():  # the first buffer starts LiteRT's buffer environment
                self._ready[name] = _Ready(Signature(self.model, name))
        return self._ready[name].run(batch)


class _Ready:
    """A signature with the buffers of its one input and its one output."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        (source,), (self._name,) = signature.inputs, signature.outputs
        self._inputs = {source: signature.input_buffer(source)}
        self._input = self._inputs[source]
        self._output = signature.output_buffer(self._name)

    def run(self, batch: np.ndarray) -> np.ndarray:
        self._input.write(batch)
        self._signature.invoke(self._inputs, {self._name: self._output})
        return self._signature.read(self._name, self._output)
