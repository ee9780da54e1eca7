"""A conversation that keeps its key/value cache from turn to turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import ChatPreprocessor
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.reprs import quantity, short_repr

# With less room for an answer, in tokens, the oldest turn is forgotten.
_ANSWER = 16


class Chat:
    """A conversation; each turn adds only its new tokens to the cache.

    Some templates write earlier turns differently once the conversation goes on (Qwen3 leaves out
    earlier reasoning): then the conversation is read again from the first token that differs.

    Args:
        generator: generator of a causal model with a chat template.
        system: the system message that begins the conversation; empty: none.
        forget: True: a conversation that no longer fits goes on without its oldest turns; the
            system message stays. False: `say` raises.

    Attributes:
        messages: the whole conversation.
        forgotten: number of its oldest turns that the model no longer reads.

    Raises:
        InputError: the model has no chat template.
    """

    def __init__(self, generator: TextGenerator, system: str = "", forget: bool = False) -> None:
        if not isinstance(generator.preprocessor, ChatPreprocessor):
            raise InputError(
                "this model has no chat template.\n"
                "  Chat needs one from: tfx-transformer run instruction_finetuning"
            )
        self.generator = generator
        self.forget, self.forgotten = forget, 0
        self.messages = [{"role": "system", "content": system}] if system else []
        self._session = generator.engine.session()
        self._cached: list[int] = []  # tokens in the cache
        self._pending: list[int] = []  # written last, not in the cache yet
        self._answered = 0  # messages whose tokens are in the cache or pending

    def __repr__(self) -> str:
        said = [
            f"  {m['role']}: {short_repr(str(m.get('content') or ''))}" for m in self.messages[-3:]
        ]
        return "\n".join([f"Chat: {quantity(len(self.messages), 'message')}", *said])

    def say(self, text: str, stream: Callable[[str], None] | None = None, **options: Any) -> str:
        """Return the answer to a message.

        Args:
            stream: called with each piece of the answer as soon as it is certain.
            options: fields of `GenerationOptions`; no beams.

        Raises:
            InputError: the conversation has no room left in the model's context, or an option is
                out of range. The conversation stays as it was.
        """
        choices = GenerationOptions(**options)
        if choices.beams > 1:
            raise InputError("a chat decodes without beams.\n  Drop --beams.")
        form = self.generator.form(choices)
        generator, config = self.generator, self.generator.engine.config
        # A message longer than the whole context is refused without encoding all of it.
        text = generator.tokenizer.beginning(text, config.max_sequence_length)
        messages = [*self.messages, {"role": "user", "content": text}]
        forgotten, position, ids = self._fit(messages, config.max_sequence_length)
        room = config.max_sequence_length - position - len(ids)
        if room < 1:
            raise InputError(
                f"the conversation is full: with this message it has {position + len(ids):,} "
                f"tokens or more, the model's context is {config.max_sequence_length:,}.\n"
                f"  {'Shorten the message' if self.forget else 'Begin a new one'}."
            )
        draws = loop.uniforms(choices, loop.new_limit(choices, room), 1)
        writer = generator.writer(choices, stream, generator.form_for(form, messages))
        if position < len(self._cached):  # from here on the cache is written over
            self._cached, self._pending, self._answered = self._cached[:position], [], 0
        loop.complete(self._session, ids, position, choices, config, draws, on_ids=writer)
        answer, last = writer.finish(), writer.ids[-1]
        self._cached += [*ids, *writer.ids[:-1]]
        # An answer that was cut off is closed, as all answers are in training.
        self._pending = [last] if last == config.end_id else [last, config.end_id]
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        self.forgotten = forgotten
        self._answered = len(self._read(self.messages, forgotten))
        return answer

    def _read(self, messages: list[dict[str, str]], forgotten: int) -> list[dict[str, str]]:
        """Return the messages without the oldest turns."""
        first = 1 if messages[0]["role"] == "system" else 0
        return messages[:first] + messages[first + 2 * forgotten :]

    def _fit(self, messages: list[dict[str, str]], context: int) -> tuple[int, int, list[int]]:
        """Return how many turns are forgotten, and for the others what `_unread` returns."""
        forgotten = self.forgotten
        position, ids = self._unread(self._read(messages, forgotten), self._answered)
        # In a small context an answer gets less room.
        room = min(_ANSWER, context // 4) if self.forget else 0
        while self.forget and position + len(ids) + room > context:
            fewer = self._read(messages, forgotten + 1)
            if not fewer or fewer[-1] is not messages[-1]:
                break
            forgotten += 1
            position, ids = self._unread(fewer, 0)
        return forgotten, position, ids

    def _unread(self, messages: list[dict[str, str]], answered: int) -> tuple[int, list[int]]:
        """Return how many tokens of the cache stay, and the ids that the model must read after
        them.

        Args:
            answered: number of messages whose tokens are in the cache or pending; 0: compare the
                cache with the whole prompt.
        """
        template = cast("ChatPreprocessor", self.generator.preprocessor).template
        if answered:
            new = template.continuation(messages, answered)
            if new is not None:
                return len(self._cached), [*self._pending, *new]
        prompt = template.prompt(messages)
        pairs = enumerate(zip(self._cached, prompt[:-1], strict=False))
        shared = min(len(self._cached), len(prompt) - 1)
        position = next((place for place, (old, new) in pairs if old != new), shared)
        return position, prompt[position:]
