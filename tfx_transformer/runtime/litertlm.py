"""Generation by Google's LiteRT-LM, from the `.litertlm` file of a bundle."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfx_transformer import bundle, flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import new_preprocessor
from tfx_transformer.generation.text import Prompt, TextGenerator
from tfx_transformer.runtime import litertlm_file
from tfx_transformer.text.tokenizer import Tokenizer

# Marks the name of a special token in texts for LiteRT-LM, which takes only texts: without the mark
# a name means its characters. It is a noncharacter, which exchanged texts should not hold (Unicode,
# section 23.7); in a text that does, it is replaced.
CONTROL, REPLACEMENT = "\ufdd0", "\ufffd"


@bundle.consistent_read
def load(path: str | os.PathLike) -> TextGenerator:
    """Return the model of a bundle, as `runtime.load`, run by LiteRT-LM: greedy decoding only.

    Args:
        path: the bundle's folder.

    Raises:
        InputError: the bundle is damaged or holds no `.litertlm` file, or LiteRT-LM is not
            installed or cannot read it.
    """
    path = Path(path)
    bundle.verify(path, [bundle.CONFIG, *bundle.TOKENIZER_FILES, bundle.LITERTLM])
    if not (path / bundle.LITERTLM).is_file():
        raise InputError(
            f"{path} holds no {bundle.LITERTLM}.\n"
            f"  Make one of a decoder-only model: tfx-transformer export {path} --to litertlm"
        )
    values = bundle.read_config(path)
    config = TransformerConfig.from_dict(values["architecture"])
    # The file may have been exported with another context than the model was made for.
    exported = values.get("litertlm")
    context = exported.get("context") if isinstance(exported, dict) else None
    if type(context) is int and context >= 2:
        config = dataclasses.replace(config, max_sequence_length=context)
    tokenizer = bundle.read_tokenizer(path)
    engine = LiteRTLMEngine(path / bundle.LITERTLM, config, tokenizer)
    preprocessor = new_preprocessor("causal", tokenizer)
    return LiteRTLMGenerator(engine, preprocessor, config.max_sequence_length - 1)


class LiteRTLMGenerator(TextGenerator):
    """A `TextGenerator` with prompts of the ids that LiteRT-LM makes of their texts.

    A prompt that is cut may end inside a character; a text cannot, so those bytes are left out.
    Calls of tools are not held to their form.
    """

    holds_calls = False

    def encode(self, text: Prompt, truncate: bool = False, most: int | None = None) -> list[int]:
        """See `TextGenerator.encode`."""
        most = longest = self.max_prompt_tokens if most is None else most
        while True:
            ids = ids_of_text(super().encode(text, truncate, most), self.tokenizer)
            if len(ids) <= longest:
                return ids
            most -= len(ids) - longest  # the cut text became more tokens


class LiteRTLMEngine:
    """Runs a `.litertlm` file; texts run one after the other.

    LiteRT-LM takes and returns texts, so prompts are decoded for it, and its answers encoded.

    Args:
        file: a file that `export.litertlm` wrote.
        config: of the model.
        tokenizer: of the model.

    Raises:
        InputError: LiteRT-LM is not installed or cannot read the file, or the file is not safe: see
            `litertlm_file.check`.
    """

    def __init__(
        self, file: str | os.PathLike, config: TransformerConfig, tokenizer: Tokenizer
    ) -> None:
        try:
            import litert_lm
        except ImportError as error:
            raise InputError("LiteRT-LM is not installed.\n  pip install litert-lm") from error
        self.file, self.config, self.tokenizer = file, config, tokenizer
        with flags.silence():
            litertlm_file.check(file)
        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        try:
            with flags.silence():
                # The default cache is a file next to the model, which is not part of a bundle.
                self.engine = litert_lm.Engine(str(file), cache_dir=":nocache")
        except RuntimeError as error:
            raise InputError(f"{file} cannot be read by LiteRT-LM: {error}") from error

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: loop.OnIds | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`.

        Raises:
            InputError: the options ask for more than greedy decoding, or LiteRT-LM cannot run the
                file.
        """
        _check_greedy(options)
        answers = []
        for ids in source_ids:
            limit = loop.new_limit(options, self.config.max_sequence_length - len(ids))
            try:
                answer = self._answer(ids, limit, on_ids)
            except RuntimeError as error:
                raise InputError(f"{self.file} cannot be run by LiteRT-LM: {error}") from error
            answers.append([*answer, self.config.end_id])
        rows = np.full((len(answers), max(map(len, answers))), self.config.padding_id, "int32")
        for row, answer in zip(rows, answers, strict=True):
            row[: len(answer)] = answer
        return rows

    def session(self) -> loop.Session:
        """Raise InputError: LiteRT-LM does not give access to its cache and logits."""
        raise InputError(
            "LiteRT-LM chats by itself.\n"
            f"  Run: litert-lm run .../{bundle.LITERTLM}, or chat with --engine litert."
        )

    def _answer(self, ids: Sequence[int], limit: int, on_ids: loop.OnIds | None) -> list[int]:
        """Return the ids of the answer to a prompt; `on_ids` may end it."""
        answer: list[int] = []
        ended = False
        with self.engine.create_session(
            apply_prompt_template=False, max_output_tokens=limit
        ) as session:
            session.run_prefill([control_text(ids, self.tokenizer)])
            for response in session.run_decode_async():
                for index in self.tokenizer.encode(response.texts[0]):
                    if ended:  # tokens computed before the end still arrive, and must be read
                        continue
                    answer.append(index)
                    if on_ids is not None and on_ids(np.array([index], "int32")):
                        ended = True
                        session.cancel_process()
        return answer


def control_text(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Return the text that LiteRT-LM encodes as these ids, with a `.litertlm` file's tokenizer."""
    names = {index: name for name, index in tokenizer.special_tokens.items()}
    pieces = []
    for special, run in itertools.groupby(ids, names.__contains__):
        if special:
            pieces += [CONTROL + names[index] for index in run]
        else:
            pieces.append(_text_of(list(run), tokenizer))
    return "".join(pieces)


def ids_of_text(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Return the ids that LiteRT-LM makes of `control_text(ids)`."""
    read: list[int] = []
    encode = tokenizer.encode
    specials = set(tokenizer.special_tokens.values())
    for special, group in itertools.groupby(ids, specials.__contains__):
        run = list(group)
        read += run if special else encode(_text_of(run, tokenizer))
        encode = tokenizer.encode_after
    return read


def _text_of(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Return the text of ids, without incomplete characters."""
    data = tokenizer.decode_bytes(ids)
    if tokenizer.leading_space:
        data = data.removeprefix(b" ")
    return data.decode("utf-8", errors="ignore").replace(CONTROL, REPLACEMENT)


def _check_greedy(options: GenerationOptions) -> None:
    greedy = GenerationOptions()
    names = ("beams", "top_k", "top_p", "temperature", "repetition_penalty")
    for name in (*names, "schema", "regex", "choices", "logprobs"):
        if getattr(options, name) != getattr(greedy, name):
            raise InputError(
                f"{name} is {getattr(options, name)}, which LiteRT-LM does not support.\n"
                "  Drop it, or choose another engine."
            )
