"""A conversation that keeps its key/value cache from turn to turn."""

from __future__ import annotations

from collections.abc import Callable

from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.encoders import ChatEncoder
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.text import TextGenerator, Writer


class Chat:
    """Each turn adds only what is new to the cache: the last message, not the whole conversation.

    Args:
        generator: of a causal model with a chat template.
        system: what the model is told before the conversation.

    Raises:
        InputError: the model has no chat template.
    """

    def __init__(self, generator: TextGenerator, system: str = "") -> None:
        if not isinstance(generator.encoder, ChatEncoder):
            raise InputError(
                "this model has no chat template.\n"
                "  Chat needs one from: tfx-transformer run instruction_finetuning"
            )
        self.generator = generator
        self.messages = [{"role": "system", "content": system}] if system else []
        self._session = generator.engine.session()
        self._cached = 0  # tokens in the cache
        self._pending: list[int] = []  # written last, not in the cache yet
        self._answered = 0  # messages whose tokens are in the cache or pending

    def say(self, text: str, stream: Callable[[str], None] | None = None, **options) -> str:
        """The answer to a message.

        Args:
            stream: is given each piece of the answer as soon as it is certain.
            options: fields of `GenerationOptions`; no beams.

        Raises:
            InputError: the conversation has no room left in the model's context, or an option is
                out of range. The conversation stays as it was.
        """
        choices = GenerationOptions(**options)
        if choices.beams > 1:
            raise InputError("a chat decodes without beams.\n  Drop --beams.")
        generator, config = self.generator, self.generator.engine.config
        messages = [*self.messages, {"role": "user", "content": text}]
        new = generator.encoder.template.continuation(messages, self._answered)
        ids = [*self._pending, *new]
        room = config.max_sequence_length - self._cached - len(ids)
        if room < 1:
            raise InputError(
                f"the conversation is full: with this message it has {self._cached + len(ids):,} "
                f"tokens, the model's context is {config.max_sequence_length:,}.\n"
                "  Begin a new one."
            )
        draws = loop.uniforms(choices, loop.new_limit(choices, room), 1)
        writer = Writer(generator.tokenizer, choices.stop, stream)
        loop.complete(self._session, ids, self._cached, choices, config, draws, on_ids=writer)
        answer, last = writer.finish(), writer.ids[-1]
        self._cached += len(ids) + len(writer.ids) - 1
        # An answer that was cut off is closed, as all answers are in training.
        self._pending = [last] if last == config.end_id else [last, config.end_id]
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        self._answered = len(self.messages)
        return answer
