"""Runs an exported bundle with ai-edge-litert, NumPy and tiktoken; never TensorFlow or Keras."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import bundle, flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.text.tokenizer import Tokenizer


def load(
    path: str | os.PathLike, variant: str | None = None, threads: int | None = None
) -> TextGenerator:
    """The translator of a bundle: `load("saved_models/en_ja").generate("I love cats.")`.

    Args:
        path: the bundle's folder.
        variant: "float32" or "int8"; None: float32 if the bundle has it, else int8.
        threads: of LiteRT; None: one per core that this process may use.

    Raises:
        InputError: the bundle is damaged or holds no TFLite file of this variant.
    """
    path = Path(path)
    bundle.verify(path)
    config = TransformerConfig.from_dict(bundle.read_config(path)["architecture"])
    present = [name for name, file in bundle.LITERT.items() if (path / file).is_file()]
    if variant is None and present:
        variant = present[0]
    if variant not in present:
        raise InputError(
            f"{path} holds no {variant or 'TFLite'} file for LiteRT; it holds: "
            f"{', '.join(present) or 'none'}.\n"
            f"  Make one: tfx-transformer export {path} --to litert"
        )
    engine = LiteRTEngine(path / bundle.LITERT[variant], config, threads)
    tokenizer = Tokenizer.load(path / bundle.TOKENIZER)
    return TextGenerator(engine, tokenizer, config.max_sequence_length)


class LiteRTEngine:
    """Runs the signatures `encode_<length>`, `prefill`, `decode` and `decode_beams` of a TFLite
    file; texts run one after the other.

    The caches stay in LiteRT's buffers: what a step writes is handed to the next step as its
    input, and nothing but token ids and logits crosses into Python.

    Args:
        file: a TFLite file that `export.litert` wrote.
        config: of the model.
        threads: of LiteRT; None: one per core that this process may use.
    """

    def __init__(
        self, file: str | os.PathLike, config: TransformerConfig, threads: int | None = None
    ) -> None:
        self.config = config
        self.model = _compile(file, threads or _cores())
        names = self.model.get_signature_list()
        lengths = sorted(int(n.removeprefix("encode_")) for n in names if n.startswith("encode_"))
        self.encoders = {length: Signature(self.model, f"encode_{length}") for length in lengths}
        self.prefill = Signature(self.model, "prefill")
        with flags.muted():  # the first buffer starts LiteRT's buffer environment
            self.prefill.input_buffer("memory")
        self.decoders = {
            signature.rows: signature
            for signature in (Signature(self.model, name) for name in names if "decode" in name)
        }

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: Callable[[np.ndarray], None] | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`."""
        limit = loop.new_limit(options, self.config)
        draws = loop.uniforms(options, limit, len(source_ids))
        rows = []
        for index, ids in enumerate(source_ids):
            steps = self.start(ids, options.beams)
            rows += list(
                loop.decode(
                    steps.step,
                    None,
                    1,
                    options,
                    self.config,
                    draws=draws[:, index : index + 1],
                    reorder=steps.reorder,
                    on_ids=on_ids,
                )
            )
        return np.array(rows)

    def start(self, source_ids: Sequence[int], rows: int = 1) -> Steps:
        """Encodes a source and projects it for cross-attention; its decoding steps come next."""
        if rows not in self.decoders:
            raise InputError(
                f"this TFLite file decodes with {' or '.join(map(str, self.decoders))} beams, "
                f"not with {rows}.\n  Export again with --beams {rows}."
            )
        length = next(length for length in self.encoders if length >= len(source_ids))
        encoder = self.encoders[length]
        token_ids = np.full((1, length), self.config.padding_id, "int32")
        token_ids[0, : len(source_ids)] = source_ids
        memory = encoder.run({"encoder_token_ids": token_ids})
        return Steps(self.decoders[rows], self.prefill.run(memory), len(source_ids))


class Steps:
    """The decoding steps of one source.

    Args:
        signature: `decode` or `decode_beams`.
        memory: buffers of the cross-attention cache.
        source_length: number of source tokens.
    """

    def __init__(self, signature: Signature, memory: dict[str, Any], source_length: int) -> None:
        self.signature = signature
        self.rows = np.arange(signature.rows, dtype="int32")
        length = signature.input_buffer("source_length", np.array([source_length], "int32"))
        self.constant = {**memory, "source_length": length}
        self.inputs = {
            name: signature.input_buffer(name)
            for name in signature.inputs
            if name not in self.constant
        }
        self.outputs = {name: signature.output_buffer(name) for name in signature.outputs}

    def reorder(self, cache: None, rows: np.ndarray) -> None:
        """Row i of the next step continues rows[i] of the last one."""
        self.rows = rows.astype("int32")

    def step(self, ids: np.ndarray, position: int, cache: None) -> tuple[np.ndarray, None]:
        """float32 (rows, vocabulary_size) logits after ids int32 (rows,)."""
        self.inputs["tokens"].write(ids.astype("int32")[:, None])
        self.inputs["input_pos"].write(np.array([position], "int32"))
        if "rows" in self.inputs:
            self.inputs["rows"].write(self.rows)
        self.signature.invoke(self.inputs | self.constant, self.outputs)
        for name in self.outputs.keys() & self.inputs.keys():  # the cache: written becomes read
            self.inputs[name], self.outputs[name] = self.outputs[name], self.inputs[name]
        self.rows = np.arange(len(ids), dtype="int32")
        return self.signature.read("logits", self.outputs["logits"])[:, 0], None


class Signature:
    """One signature of a TFLite file and the buffers it reads and writes.

    Args:
        model: `ai_edge_litert.compiled_model.CompiledModel`.
        name: of the signature.
    """

    def __init__(self, model, name: str) -> None:
        self.model, self.name = model, name
        self.inputs = model.get_input_tensor_details(name)
        self.outputs = model.get_output_tensor_details(name)
        self.rows = self.inputs["tokens"]["shape"][0] if "tokens" in self.inputs else 1

    def input_buffer(self, name: str, values: np.ndarray | None = None):
        """A buffer for an input, holding values or zeros."""
        details = self.inputs[name]
        buffer = self.model.create_input_buffer_by_name(self.name, name)
        buffer.write(np.zeros(details["shape"], details["dtype"]) if values is None else values)
        return buffer

    def output_buffer(self, name: str):
        """A buffer for an output."""
        return self.model.create_output_buffer_by_name(self.name, name)

    def invoke(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Computes; reads and writes the buffers given for every input and output."""
        self.model.run_by_name(self.name, inputs, outputs)

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Computes from arrays or buffers into new buffers."""
        outputs = {name: self.output_buffer(name) for name in self.outputs}
        buffers = {
            name: self.input_buffer(name, value) if isinstance(value, np.ndarray) else value
            for name, value in inputs.items()
        }
        self.invoke(buffers, outputs)
        return outputs

    def read(self, name: str, buffer) -> np.ndarray:
        """The values of an output's buffer."""
        shape = self.outputs[name]["shape"]
        return buffer.read(int(np.prod(shape)), np.float32).reshape(shape)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _compile(file: str | os.PathLike, threads: int):
    """A `CompiledModel`; LiteRT's start-up messages are dropped."""
    with flags.muted():
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import CpuOptions, Options

        options = Options(
            hardware_accelerators=HardwareAccelerator.CPU,
            cpu_options=CpuOptions(num_threads=threads),
        )
        try:
            return CompiledModel.from_file(str(file), options=options)
        except Exception as error:
            raise InputError(f"{file} cannot be read as a TFLite model: {error}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of `run.pyz`: writes the answer to each text, with the bundle it lies in."""
    parser = argparse.ArgumentParser(prog="run.pyz", description=main.__doc__)
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    parser.add_argument("--beams", type=int, default=1, help="1, or what the file was exported for")
    parser.add_argument("--variant", choices=list(bundle.LITERT), help="which TFLite file to run")
    flags.add_common_flags(parser)
    chosen = parser.parse_args(arguments)

    def answer() -> dict[str, list[dict[str, str]]]:
        generator = load(Path(sys.argv[0]).resolve().parent, chosen.variant)
        written = generator.generate(chosen.texts, beams=chosen.beams)
        print("\n".join(written))
        pairs = zip(chosen.texts, written, strict=True)
        return {"answers": [{"text": text, "answer": answer} for text, answer in pairs]}

    flags.guarded(answer, chosen)
