"""A TFLite file in LiteRT: its signatures, and the buffers that they read and write."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfx_transformer import flags
from tfx_transformer.errors import InputError
from tfx_transformer.runtime.model_file import Interface, has_four_bits, read_signatures

# Without this name XNNPACK arranges the weights anew for every signature, which takes the memory of
# several files. With it all signatures share them, in memory; LiteRT can do that on Linux only.
_SHARED_WEIGHTS = ":memory" if sys.platform == "linux" else ""


class CompiledFile:
    """A TFLite file that LiteRT has compiled; `compile_file` returns it.

    Args:
        file: the compiled file, for errors.
        compiled: `ai_edge_litert.compiled_model.CompiledModel`.
        signatures: of the file, by name.
    """

    def __init__(self, file: str | os.PathLike, compiled, signatures: dict[str, Interface]) -> None:
        self.file, self.compiled, self.signatures = file, compiled, signatures

    @functools.cached_property
    def has_four_bits(self) -> bool:
        """True if weights have 4 bits."""
        return has_four_bits(self.file)

    def numbered(self, beginning: str, ending: str = "") -> list[int]:
        """Return the numbers, ascending, of the signatures named <beginning><number><ending>."""
        pattern = re.escape(beginning) + "([1-9][0-9]{0,6})" + re.escape(ending)
        found = (re.fullmatch(pattern, name) for name in self.signatures)
        return sorted(int(match[1]) for match in found if match)

    def beginnings(self, slots: int) -> dict[int, str]:
        """Return the beginnings of the names of the signatures for texts that fit into the first
        slots, by the number of slots, ascending. The last beginning is empty: its signatures use
        all slots.

        Args:
            slots: of the caches.
        """
        first = [n for n in self.numbered("first_", "_decode") if n < slots]
        return {n: f"first_{n}_" for n in first} | {slots: ""}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Turn LiteRT's errors in the block into an InputError that names the file."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            raise InputError(
                f"{self.file} cannot be run by LiteRT: {error}\n"
                "  Copy the file again, or export the model again."
            ) from error


class Signature:
    """A signature of a TFLite file; creates the buffers that it reads and writes.

    Args:
        model: from `compile_file`.
        name: of the signature.
    """

    def __init__(self, model: CompiledFile, name: str) -> None:
        self.model, self.name = model, name
        self.inputs, self.outputs = model.signatures[name]
        self.rows = self.inputs["tokens"][1][0] if "tokens" in self.inputs else 1

    def input_buffer(self, name: str, values: np.ndarray | None = None):
        """Return a buffer for an input, with values or zeros."""
        kind, shape = self.inputs[name]
        with self.model.running():
            buffer = self.model.compiled.create_input_buffer_by_name(self.name, name)
            buffer.write(np.zeros(shape, kind) if values is None else values)
        return buffer

    def output_buffer(self, name: str):
        """Return a buffer for an output."""
        with self.model.running():
            return self.model.compiled.create_output_buffer_by_name(self.name, name)

    def invoke(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Run the signature, with a buffer for every input and output."""
        with self.model.running():
            self.model.compiled.run_by_name(self.name, inputs, outputs)

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the signature on arrays or buffers; return new buffers of the outputs."""
        outputs = {name: self.output_buffer(name) for name in self.outputs}
        buffers = {
            name: self.input_buffer(name, value) if isinstance(value, np.ndarray) else value
            for name, value in inputs.items()
        }
        self.invoke(buffers, outputs)
        return outputs

    def read(self, name: str, buffer) -> np.ndarray:
        """Return the values of an output's buffer, float32."""
        _, shape = self.outputs[name]
        with self.model.running():
            return buffer.read(math.prod(shape), np.float32).reshape(shape)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _environment() -> Any:
    """Return LiteRT's environment, one for all models, since it logs when made and when removed."""
    import ai_edge_litert
    from ai_edge_litert.environment import Environment, EnvironmentOptions

    libraries = os.path.dirname(os.path.abspath(ai_edge_litert.__file__))
    return Environment.create(options=EnvironmentOptions(runtime_path=libraries))


def compile_file(file: str | os.PathLike, threads: int | None = None) -> CompiledFile:
    """Return a TFLite file compiled for CPUs; LiteRT's start-up messages are dropped.

    Args:
        file: a TFLite file that `export.litert` wrote.
        threads: threads of LiteRT; None: one per core that this process may use.

    Raises:
        InputError: LiteRT cannot read the file, or it is not safe: see `read_signatures`.
    """
    with flags.silence():
        signatures = read_signatures(file)
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import CpuOptions, Options

        options = Options(
            hardware_accelerators=HardwareAccelerator.CPU,
            cpu_options=CpuOptions(
                num_threads=threads or _cores(), xnnpack_weight_cache_path=_SHARED_WEIGHTS
            ),
        )
        try:
            compiled = CompiledModel.from_file(
                str(file), environment=_environment(), options=options
            )
        except Exception as error:
            raise InputError(f"{file} cannot be read as a TFLite model: {error}") from error
    return CompiledFile(file, compiled, signatures)
