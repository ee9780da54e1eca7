"""Strings in, strings out, over any engine that turns ids into ids."""

from __future__ import annotations

import codecs
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, overload

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop, numpy_ops
from tfx_transformer.generation.constraint import Constraint, Vocabulary, is_installed
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import PREPROCESSORS, ChatPreprocessor, Preprocessor
from tfx_transformer.prediction.answers import TablePredictor
from tfx_transformer.renamed import old_attribute
from tfx_transformer.reprs import quantity
from tfx_transformer.text.messages import Message, clean_messages
from tfx_transformer.text.prompts import CallForm
from tfx_transformer.text.tokenizer import Tokenizer

Prompt = str | Sequence[Message]
# Logits of tokens that may not be chosen.
_NEVER = np.float32(-1e9)
# Fewest tokens of a request, with those around it.
_REQUEST = 8
# Tokens by which a call may be longer if its arguments are copied from the request.
_COPIED = 16
# Texts of a batch.
_BATCH = 64
# Tokens that are tried before one that leads to the end is taken.
_TRIED = 8


class PromptTooLong(InputError):
    """A prompt of more tokens than the model reads."""


class TokenProbability(NamedTuple):
    """A token that was written, and how probable it was to the model.

    token: its text, broken bytes as \\xNN; logprob: natural logarithm of its probability in the
    model, before options change it; top: the most probable tokens and their logprobs, in order.
    """

    token: str
    logprob: float
    top: list[tuple[str, float]]


class Answer(NamedTuple):
    """An answer of a model.

    text: its text; tokens: with `logprobs`, the written tokens without special ones; else None.
    """

    text: str
    tokens: list[TokenProbability] | None = None


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
            context of the engine's configuration, less the room that an answer needs in it.
        batch_size: most texts of a batch; texts of similar length share one. None: all at once, for
            an engine in which a text that ends leaves its row to the next.
    """

    def __init__(
        self,
        engine: Engine,
        preprocessor: Preprocessor,
        max_prompt_tokens: int | None = None,
        batch_size: int | None = _BATCH,
    ) -> None:
        if max_prompt_tokens is None:
            max_prompt_tokens = engine.config.max_sequence_length - preprocessor.answer_slots
        self.engine = engine
        self.preprocessor = preprocessor
        self.tokenizer = preprocessor.tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.batch_size = batch_size

    # True if answers of a model that calls tools are held to the form of calls.
    holds_calls: bool = True

    encoder = old_attribute("TextGenerator.encoder", "preprocessor")

    @property
    def task(self) -> str:
        """The task of the model."""
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
        """Return the text written for a text, or the list of those for a list.

        Args:
            texts: one text or several. For a chat model each may be a conversation: a list of
                messages, {"role": "system", "user", "assistant" or "tool", "content": text}.
            stream: called with each piece of text as soon as it is certain; for one text, without
                beams.
            truncate: cut texts that have more tokens than the model reads; of a conversation the
                oldest turns go first.
            options: fields of `GenerationOptions`.

        Raises:
            InputError: a text is too long and may not be cut, or an option is out of range.
        """
        found: Any = self.answer(texts, stream=stream, truncate=truncate, **options)
        return found.text if isinstance(found, Answer) else [one.text for one in found]

    @overload
    def answer(
        self,
        texts: str | Sequence[Message],
        *,
        stream: Callable[[str], None] | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> Answer: ...

    @overload
    def answer(
        self,
        texts: Sequence[Prompt],
        *,
        stream: Callable[[str], None] | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> list[Answer]: ...

    def answer(
        self,
        texts: Prompt | Sequence[Prompt],
        *,
        stream: Callable[[str], None] | None = None,
        truncate: bool = False,
        **options: Any,
    ) -> Answer | list[Answer]:
        """Return the answer to a text, with `logprobs` also the probabilities of its tokens; for a
        list of texts the list of answers. See `generate`."""
        single = is_one_prompt(texts)
        given: list[Any] = [texts] if single else list(texts)
        choices = GenerationOptions(**options)
        if stream is not None and (len(given) != 1 or choices.beams > 1):
            raise InputError(
                "streaming needs one text and no beams.\n"
                "  Beam search may still change its mind about every token."
            )
        form = self.form(choices)
        most = self.max_prompt_tokens
        if form is not None and truncate and self.preprocessor.answer_slots:
            room = form.least + (_COPIED if self._is_narrowed(form) else 0)
            most = max(most + self.preprocessor.answer_slots - room, 1)
        prompts = [self.encode(text, truncate, most) for text in given]
        watched = stream or choices.stop or form or choices.logprobs is not None
        batch_size = 1 if watched else self.batch_size
        if batch_size is None:
            # The draws of a text depend on its place in a batch: every engine has the same batches.
            batch_size = _BATCH if choices.temperature else max(len(given), 1)
        results = [Answer("")] * len(given)
        places = list(range(len(given)))
        is_plain = not stream and choices.logprobs is None and not choices.temperature
        if form is not None and is_plain and len(given) > 1:
            results, places = self._answer_freely(given, prompts, choices, form)
        by_length = sorted(places, key=lambda i: len(prompts[i]))
        for start in range(0, len(by_length), batch_size):
            batch = by_length[start : start + batch_size]
            one = self.form_for(form, given[batch[0]])
            writer = self.writer(choices, stream, one) if watched else None
            rows = self.engine.generate_ids([prompts[i] for i in batch], choices, writer)
            if writer is not None:
                writer.check_form()
            for i, row in zip(batch, rows, strict=True):
                written = writer.finish() if writer is not None else ""
                text = written if choices.stop else self.decode(row)
                results[i] = Answer(text, None if writer is None else writer.tokens)
        return results[0] if single else results

    def _answer_freely(
        self,
        given: Sequence[Prompt],
        prompts: Sequence[Sequence[int]],
        options: GenerationOptions,
        form: Constraint,
    ) -> tuple[list[Answer], list[int]]:
        """Return answers written in batches without the form, and the indices of those that are not
        of the form. The others equal those with the form, which allows all their tokens."""
        free = options.without_form()
        results, left = [Answer("")] * len(prompts), []
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        batch_size = self.batch_size or max(len(prompts), 1)
        for start in range(0, len(prompts), batch_size):
            batch = by_length[start : start + batch_size]
            rows = self.engine.generate_ids([prompts[i] for i in batch], free)
            for i, row in zip(batch, rows, strict=True):
                results[i] = Answer(self.decode(row))
                if not self.form_for(form, given[i]).holds(row.tolist()):
                    left.append(i)
        return results, left

    def form(self, options: GenerationOptions) -> Constraint | None:
        """Return the form of answers that options ask for. If they ask for none, it is the form
        of calls for a model that calls tools, unless there are beams, stop texts or `free`.

        Raises:
            InputError: it cannot be read, or is too complex.
        """
        if options.has_form:
            return Constraint(options, self.vocabulary)
        is_free = options.free or options.beams > 1 or options.stop
        return None if is_free else self._calls

    def form_for(self, form: Constraint | None, prompt: Prompt) -> Constraint | None:
        """Return a form for one prompt. In the form of calls, arguments that are copied from the
        request are parts of the user's messages in the prompt; other forms stay as they are."""
        if form is None or not self._is_narrowed(form):
            return form
        return Constraint(self.call_form, self.vocabulary, _request(prompt))

    def _is_narrowed(self, form: Constraint) -> bool:
        return form is self._calls and self.call_form.tools.copies

    @functools.cached_property
    def _calls(self) -> Constraint | None:
        """The form of calls as a constraint; None if the model calls no tools, if llguidance is not
        installed, or if the context has no room for a request and a call."""
        if not self.holds_calls or self.call_form is None or not is_installed():
            return None
        form = Constraint(self.call_form, self.vocabulary)
        return form if form.least + _REQUEST <= self.engine.config.max_sequence_length else None

    @functools.cached_property
    def call_form(self) -> CallForm | None:
        """The form in which the template writes calls; None if the model calls no tools."""
        if not isinstance(self.preprocessor, ChatPreprocessor):
            return None
        return self.preprocessor.template.call_form()

    def writer(
        self,
        options: GenerationOptions,
        stream: Callable[[str], None] | None = None,
        form: Constraint | None = None,
        keep_space: bool = False,
    ) -> Writer:
        """Return the `Writer` of one answer, which turns ids into text and holds it to its form."""
        begun = None if form is None else form.begin()
        return Writer(self.tokenizer, options.stop, stream, begun, options.logprobs, keep_space)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens, for answers of a given form."""
        config = self.engine.config
        most = config.max_sequence_length
        return Vocabulary(self.tokenizer, config.vocabulary_size, config.end_id, most)

    def __repr__(self) -> str:
        return (
            f"TextGenerator: {type(self.engine).__name__}, prompts of up to "
            f"{quantity(self.max_prompt_tokens, 'token')}\n  {self.tokenizer!r}"
        )

    def encode(self, text: Prompt, truncate: bool = False, most: int | None = None) -> list[int]:
        """Ids of a prompt; too long a text is cut or refused.

        Args:
            most: most tokens of the prompt; None: `max_prompt_tokens`.
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
            raise PromptTooLong(
                f"the text {content[:40]!r}… makes a prompt of {more}"
                f"{quantity(len(ids), 'token')}; the model reads {most}.\n"
                "  Split it, or shorten it."
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
    """Return True for a text or a conversation, False for a list of those."""
    return isinstance(texts, str) or (len(texts) > 0 and isinstance(texts[0], Mapping))


def _request(prompt: Prompt) -> str:
    """Return the messages of the user, joined by line breaks."""
    if isinstance(prompt, str):
        return prompt
    said = [message.get("content") for message in prompt if message.get("role") == "user"]
    return "\n".join(text for text in said if isinstance(text, str))


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop texts in it."""
    places = [place for end in stop if (place := text.find(end)) >= 0]
    return text[: min(places)] if places else text


class Writer:
    """Turns ids into text as they come: bytes are held back until they complete a character, text
    until it cannot be the beginning of a stop text.

    Args:
        tokenizer: tokenizer of the model.
        stop: texts before which the answer ends.
        stream: called with each piece of text.
        constraint: the form of the answer, if it has one.
        logprobs: how many of the most probable tokens are noted with each written one; None: no
            probability is noted.
        keep_space: keep the space that SentencePiece's tokenizers write before the first word: the
            text continues another.

    Attributes:
        ids: the written ids.
        tokens: with `logprobs`, the probabilities of the written tokens without special ones.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        stream: Callable[[str], None] | None = None,
        constraint: Constraint | None = None,
        logprobs: int | None = None,
        keep_space: bool = False,
    ) -> None:
        self._tokenizer, self._stop, self._stream = tokenizer, stop, stream
        self._drops_space = tokenizer.leading_space and not keep_space
        self._constraint, self._top = constraint, logprobs
        self._logprobs: np.ndarray | None = None
        self.tokens: list[TokenProbability] | None = None if logprobs is None else []
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text, self._shown, self._stopped, self._begun = "", 0, False, False
        self.ids: list[int] = []

    def choose(
        self, logits: np.ndarray, left: int, advance: Callable[[np.ndarray], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the state of a sampler after the next token, which its form allows.

        If no end could be reached after a token, another one is chosen.

        Args:
            logits: float (1, vocabulary_size).
            left: tokens that may still be written, this one included.
            advance: logits -> the state after a choice by them; its `ids` are int (1,).

        Raises:
            InputError: the form of the answer needs more tokens than may be written.
        """
        if self._top is not None:
            self._logprobs = numpy_ops.log_softmax(logits[0].astype("float32"))
        form = self._constraint
        if form is None:
            return advance(logits)
        if not self.ids:
            form.check_room(left)
        mask = form.allowed()
        for _ in range(_TRIED):
            state = advance(np.where(mask, logits, _NEVER))
            index = int(state["ids"][0])
            if form.leaves_room(index, left - 1):
                return state
            mask[index] = False
            if not mask.any():
                break
        mask[:] = False
        mask[form.next_to_end(left)] = True
        return advance(np.where(mask, logits, _NEVER))

    def __call__(self, ids: np.ndarray) -> bool:
        """Take the next id, int32 (1,); return True if the answer ends here."""
        if self._constraint is not None:
            self._constraint.accept(int(ids[0]))
        if self.tokens is not None and self._logprobs is not None:
            self._note(int(ids[0]))
        data = self._tokenizer.decode_bytes(ids[:1])
        begins, self._begun = not self._begun, self._begun or bool(data)
        if begins and self._drops_space:
            data = data.removeprefix(b" ")
        self.ids += ids.tolist()
        self._text += self._decoder.decode(data)
        before = before_stop(self._text, self._stop)
        self._stopped = len(before) < len(self._text)
        self._text = before
        self._show(len(before) if self._stopped else self._certain_length())
        return self._stopped

    def _note(self, index: int) -> None:
        """Note the probability of a token, unless it is special, such as the end token."""
        if index in self._tokenizer.special_tokens.values():
            return
        values = self._logprobs
        best = numpy_ops.top_k(values, self._top)[1].tolist() if self._top else []
        names = self._tokenizer.tokens([index, *best])
        top = [(name, float(values[i])) for name, i in zip(names[1:], best, strict=True)]
        self.tokens.append(TokenProbability(names[0], float(values[index]), top))

    def check_form(self) -> None:
        """Refuse an answer that is not of its form.

        Raises:
            InputError: a limit has cut it.
        """
        if self._constraint is not None and not self._constraint.is_complete:
            raise InputError(
                f"the answer does not fit: after {quantity(len(self.ids), 'token')} it is not of "
                "the form that was asked for.\n"
                "  Allow more tokens (max_new_tokens), or make the form or the prompt shorter."
            )

    def finish(self) -> str:
        """Return the whole text; send the part that was held back to `stream`."""
        if not self._stopped:
            self._text += self._decoder.decode(b"", final=True)
        self._show(len(self._text))
        return self._text

    def _certain_length(self) -> int:
        """Return the length of the text that no stop text can still take back."""
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
