"""Strings in, strings out, over any engine that turns ids into ids."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, overload

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import PREPROCESSORS, ChatPreprocessor, Preprocessor
from tfx_transformer.prediction.answers import TablePredictor
from tfx_transformer.renamed import old_attribute
from tfx_transformer.reprs import quantity
from tfx_transformer.text.messages import Message, clean_messages
from tfx_transformer.text.tokenizer import Tokenizer

Prompt = str | Sequence[Message]


class Engine(Protocol):
    """Runs a model: Keras or LiteRT. `config` is the model's, with the context of this engine."""

    config: TransformerConfig

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: loop.OnIds | None = None,
    ) -> np.ndarray:
        """int32 (batch, limit): `end_id` closes a text, `padding_id` follows."""

    def session(self) -> loop.Session:
        """An empty key/value cache, for one text; of a causal model only."""


class TextGenerator(TablePredictor):
    """Generates texts from texts with a tokenizer and an engine.

    Args:
        engine: runs the model.
        preprocessor: makes the prompts.
        max_prompt_tokens: longer prompts are refused unless they may be truncated. Defaults to the
            context of the engine's configuration less what the answer needs of it.
        batch_size: most texts that run together; texts of similar length do.
    """

    def __init__(
        self,
        engine: Engine,
        preprocessor: Preprocessor,
        max_prompt_tokens: int | None = None,
        batch_size: int = 64,
    ) -> None:
        if max_prompt_tokens is None:
            max_prompt_tokens = engine.config.max_sequence_length - preprocessor.answer_slots
        self.engine = engine
        self.preprocessor = preprocessor
        self.tokenizer = preprocessor.tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.batch_size = batch_size

    encoder = old_attribute("TextGenerator.encoder", "preprocessor")

    @property
    def task(self) -> str:
        """Of the model."""
        kinds = PREPROCESSORS.items()
        return next(task for task, kind in kinds if type(self.preprocessor) is kind)

    @overload
    def generate(
        self,
        texts: str | Sequence[Message],
        *,
        stream: Callable[[str], None] | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> str: ...

    @overload
    def generate(
        self,
        texts: Sequence[Prompt],
        *,
        stream: Callable[[str], None] | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> list[str]: ...

    def generate(
        self,
        texts: Prompt | Sequence[Prompt],
        *,
        stream: Callable[[str], None] | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> str | list[str]:
        """The text written for a text, or the list of those for a list.

        Args:
            texts: one text or several. For a chat model each may be a conversation: a list of
                messages, {"role": "system", "user", "assistant" or "tool", "content": text}.
            stream: is given each piece of text as soon as it is certain; for one text, without
                beams.
            truncate: cut texts that have more tokens than the model reads; of a conversation the
                oldest turns go first.
            options: fields of `GenerationOptions`.

        Raises:
            InputError: a text is too long and may not be cut, or an option is out of range.
        """
        single = is_one_prompt(texts)
        given: list[Any] = [texts] if single else list(texts)
        choices = GenerationOptions(**options)
        if stream is not None and (len(given) != 1 or choices.beams > 1):
            raise InputError(
                "streaming needs one text and no beams.\n"
                "  Beam search may still change its mind about every token."
            )
        prompts = [self.encode(text, truncate) for text in given]
        watched = stream is not None or choices.stop
        batch_size = 1 if watched else self.batch_size
        results = [""] * len(given)
        by_length = sorted(range(len(given)), key=lambda i: len(prompts[i]))
        for start in range(0, len(given), batch_size):
            batch = by_length[start : start + batch_size]
            writer = Writer(self.tokenizer, choices.stop, stream) if watched else None
            rows = self.engine.generate_ids([prompts[i] for i in batch], choices, writer)
            for i, row in zip(batch, rows, strict=True):
                watched_text = writer.finish() if watched else ""
                results[i] = watched_text if choices.stop else self.decode(row)
        return results[0] if single else results

    def __repr__(self) -> str:
        return (
            f"TextGenerator: {type(self.engine).__name__}, prompts of up to "
            f"{quantity(self.max_prompt_tokens, 'token')}\n  {self.tokenizer!r}"
        )

    def encode(self, text: Prompt, truncate: bool = False, most: int | None = None) -> list[int]:
        """Ids of a prompt; too long a text is cut or refused.

        Args:
            most: tokens of the prompt; None: `max_prompt_tokens`.
        """
        most = self.max_prompt_tokens if most is None else most
        whole = text if isinstance(text, str) else clean_messages(text)
        text = self.preprocessor.shorten(whole, most + 1)
        ids = self.preprocessor.encode(text)
        excess = len(ids) - most
        if excess <= 0:
            return ids
        content = text if isinstance(text, str) else text[-1]["content"]
        keep = self.tokenizer.count(content) - excess
        if truncate and keep < 1 and isinstance(self.preprocessor, ChatPreprocessor):
            shorter = self.preprocessor.without_oldest(text)
            if shorter is not None:
                return self.encode(shorter, truncate, most)
        if not truncate or keep < 1:
            more = "" if text == whole else "more than "
            raise InputError(
                f"the text {content[:40]!r}… makes a prompt of {more}{len(ids)} tokens; the model "
                f"reads {most}.\n  Split it, or shorten it."
            )
        # A cut inside a character can cost tokens more than it saves.
        while len(ids) > most:
            ids = self.preprocessor.encode(text, keep)
            keep -= 1
        return ids

    def decode(self, row: np.ndarray) -> str:
        """The text of a row of `generate_ids`."""
        ids = row.tolist()
        end = self.preprocessor.end_id
        return self.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)


def is_one_prompt(texts: Prompt | Sequence[Prompt]) -> bool:
    """True of a text or a conversation, False of a list of those."""
    return isinstance(texts, str) or (len(texts) > 0 and isinstance(texts[0], Mapping))


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop texts in it."""
    places = [place for end in stop if (place := text.find(end)) >= 0]
    return text[: min(places)] if places else text


class Writer:
    """Turns ids into text as they come: bytes are held back until they complete a character, text
    until it cannot be the beginning of a stop text.

    Args:
        tokenizer: of the model.
        stop: texts before which the answer ends.
        stream: is given each piece of text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        stream: Callable[[str], None] | None = None,
    ) -> None:
        self._tokenizer, self._stop, self._stream = tokenizer, stop, stream
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text, self._shown, self._stopped, self._begun = "", 0, False, False
        self.ids: list[int] = []

    def __call__(self, ids: np.ndarray) -> bool:
        """Takes the next id, int32 (1,); True if the answer ends here."""
        data = self._tokenizer.decode_bytes(ids[:1])
        begins, self._begun = not self._begun, self._begun or bool(data)
        if begins and self._tokenizer.leading_space:
            data = data.removeprefix(b" ")
        self.ids += ids.tolist()
        self._text += self._decoder.decode(data)
        before = before_stop(self._text, self._stop)
        self._stopped = len(before) < len(self._text)
        self._text = before
        self._show(len(before) if self._stopped else self._certain())
        return self._stopped

    def finish(self) -> str:
        """The whole text; shows what was held back."""
        if not self._stopped:
            self._text += self._decoder.decode(b"", final=True)
        self._show(len(self._text))
        return self._text

    def _certain(self) -> int:
        """Length of the text that no stop text can still take back."""
        lengths = (
            size
            for stop in self._stop
            for size in range(1, len(stop))
            if self._text.endswith(stop[:size])
        )
        return len(self._text) - max(lengths, default=0)

    def _show(self, end: int) -> None:
        if self._stream is not None and end > self._shown:
            self._stream(self._text[self._shown : end])
        self._shown = max(self._shown, end)
