"""Models of `generate` and `translate` in CTranslate2."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import shapes
from benchmarks.engines import Step
from benchmarks.tables import Settings, System

CTRANSLATE2 = ("ctranslate2", "torch", "transformers")


def word(number: int) -> str:
    """The name of an id: CTranslate2 reads names."""
    return f"w{number}"


class _Words:
    """The part of a tokenizer that CTranslate2's converter reads; ids have made-up names."""

    unk_token, bos_token, eos_token, pad_token = word(0), word(1), word(1), "<pad>"
    additional_special_tokens: tuple[str, ...] = ()
    special_tokens_map: dict[str, str] = {}

    def __init__(self, vocabulary: int, padded: bool) -> None:
        self.names = [word(number) for number in range(vocabulary)]
        if padded:
            self.names[-1] = self.pad_token

    def get_vocab(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}


def ctranslate2_folder(folder: Path, vocabulary: int, kind: str, padded: bool = False) -> str:
    """The folder of the converted model.

    Args:
        kind: "float32" or "int8".
        padded: the last id is padding, as in Marian.
    """
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        def load_tokenizer(self, *_args, **_options):
            return _Words(vocabulary, padded)

    converted = folder.with_name(f"{folder.name}-ctranslate2-{kind}")
    if not converted.exists():
        unfinished = converted.with_suffix(".part")
        Converter(str(folder)).convert(str(unfinished), quantization=kind, force=True)
        unfinished.rename(converted)
    return str(converted)


def ctranslate2_systems(build: Callable[..., Step]) -> tuple[System, ...]:
    """The rows of CTranslate2; in int8 also with one thread, which may be faster on small models.

    Args:
        build: makes a step of the settings and `kind`, "float32" or "int8".
    """
    rows = (
        ("int8", "int8, 1 thread", functools.partial(_with_one_thread, build, "int8")),
        ("all-int8", "int8", functools.partial(build, kind="int8")),
        ("float32", "float32", functools.partial(build, kind="float32")),
    )
    return tuple(
        System(f"ctranslate2-{name}", f"CTranslate2 {title}", row, CTRANSLATE2)
        for name, title, row in rows
    )


def _with_one_thread(build: Callable[..., Step], kind: str, settings: Settings) -> Step:
    return build({**settings, "threads": 1}, kind=kind)


def ctranslate2_generator(
    settings: Settings, folder: Path, prompts: np.ndarray, new: int, kind: str
) -> Step:
    """CTranslate2's generator, greedy."""
    import ctranslate2

    vocabulary = shapes.GPTS[settings["gpt"]].vocabulary
    generator = ctranslate2.Generator(
        ctranslate2_folder(folder, vocabulary, kind),
        compute_type=kind,
        intra_threads=settings["threads"],
    )
    given = [[word(number) for number in row] for row in prompts]

    def step() -> int:
        written = generator.generate_batch(
            given, max_length=new, min_length=new, include_prompt_in_result=False, end_token=[]
        )
        assert all(len(text.sequences_ids[0]) == new for text in written)
        return len(given) * new

    return step


def ctranslate2_translator(
    settings: Settings, folder: Path, sources: np.ndarray, new: int, vocabulary: int, kind: str
) -> Step:
    """CTranslate2's translator of a Marian model, with the beams of the settings."""
    import ctranslate2

    translator = ctranslate2.Translator(
        ctranslate2_folder(folder, vocabulary, kind, padded=True),
        compute_type=kind,
        intra_threads=settings["threads"],
    )
    given = [[word(number) for number in row] for row in sources]
    length = {"max_decoding_length": new, "min_decoding_length": new}

    def step() -> int:
        written = translator.translate_batch(given, beam_size=settings["beams"], **length)
        assert all(len(text.hypotheses[0]) == new for text in written)
        return len(given) * new

    return step
