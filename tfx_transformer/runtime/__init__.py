"""Runs an exported bundle with ai-edge-litert, NumPy and tiktoken; never TensorFlow or Keras."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tfx_transformer import bundle, flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation.encoders import new_encoder
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.runtime.causal import CausalEngine
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine

ENGINES = {"causal": CausalEngine, "seq2seq": Seq2SeqEngine}


def load(
    path: str | os.PathLike, variant: str | None = None, threads: int | None = None
) -> TextGenerator:
    """What answers for a bundle: `load("saved_models/en_ja").generate("I love cats.")`.

    Args:
        path: the bundle's folder.
        variant: "float32", "int8" or "int4"; None: the first of them that the bundle has.
        threads: of LiteRT; None: one per core that this process may use.

    Raises:
        InputError: the bundle is damaged or holds no TFLite file of this variant.
    """
    path = Path(path)
    bundle.verify(path)
    values = bundle.read_config(path)
    if (task := values.get("task")) not in ENGINES:
        raise InputError(f"{path}: task {task!r} is not known; known are {', '.join(ENGINES)}.")
    config = TransformerConfig.from_dict(values["architecture"])
    present = [name for name, file in bundle.LITERT.items() if (path / file).is_file()]
    if variant is None and present:
        variant = present[0]
    if variant not in present:
        raise InputError(
            f"{path} holds no {variant or 'TFLite'} file for LiteRT; it holds: "
            f"{', '.join(present) or 'none'}.\n"
            f"  Make one: tfx-transformer export {path} --to litert"
        )
    engine = ENGINES[task](path / bundle.LITERT[variant], config, threads)
    tokenizer = bundle.read_tokenizer(path, config.vocabulary_size)
    # A prompt that fills the context leaves no room for an answer.
    longest = engine.config.max_sequence_length - (task == "causal")
    return TextGenerator(engine, new_encoder(task, tokenizer), longest)


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
