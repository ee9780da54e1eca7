"""From a text to the ids that a model of each task reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tfx_transformer.text.messages import Message, clean_messages
from tfx_transformer.text.prompts import ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer


class Preprocessor(Protocol):
    """Makes prompts.

    Attributes:
        tokenizer: tokenizer of the model.
        end_id: id of the token that ends an answer.
        answer_slots: slots of the context that a prompt must leave to the answer: 1 if both share
            it, 0 if an encoder reads the prompt.
    """

    tokenizer: Tokenizer
    end_id: int
    answer_slots: int

    def encode(self, text: Any, keep: int | None = None) -> list[int]:
        """Return the ids of a prompt. `keep`: most tokens of its text that stay; None: all."""

    def shorten(self, text: Any, count: int) -> Any:
        """Return a very long text cut to a little more than its first (or last) `count` tokens,
        which stay the same; a shorter text as it is."""


class SourcePreprocessor:
    """Ids for an encoder-decoder: the text and the end token."""

    answer_slots = 0

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end_id = tokenizer.end_id

    def encode(self, text: str, keep: int | None = None) -> list[int]:
        """Return the ids of the text's beginning, and the end token."""
        return [*self.tokenizer.encode(text)[:keep], self.end_id]

    def shorten(self, text: str, count: int) -> str:
        """See `Preprocessor`."""
        return self.tokenizer.beginning(text, count)


class ContinuationPreprocessor:
    """Ids for a decoder-only model without a template: the text itself, to be continued."""

    answer_slots = 1

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.end_id = tokenizer.end_id

    def encode(self, text: str, keep: int | None = None) -> list[int]:
        """Return the ids of the text's end, which matters most for the continuation, after the ids
        that begin a text (Llama). If both are empty, return `end_id`: in training, documents begin
        after the end of another."""
        ids = self.tokenizer.encode(text)
        kept = ids[len(ids) - keep if keep is not None else 0 :]
        return [*self.tokenizer.prefix, *kept] or [self.end_id]

    def shorten(self, text: str, count: int) -> str:
        """See `Preprocessor`."""
        return self.tokenizer.ending(text, count)


class ChatPreprocessor:
    """Ids for a chat model: a message, or a whole conversation, in its template."""

    answer_slots = 1

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self.tokenizer = template.tokenizer
        self.end_id = template.end_id

    def encode(self, text: str | Sequence[Message], keep: int | None = None) -> list[int]:
        """Return the ids of the conversation up to where the answer begins; `keep` shortens the
        last message."""
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
        messages = clean_messages(messages)
        prompt = self.template.prompt(messages)
        if keep is None:
            return prompt
        ids = self.tokenizer.encode(messages[-1]["content"])
        for start in range(len(prompt) - len(ids), -1, -1):
            if prompt[start : start + len(ids)] == ids:
                return prompt[: start + keep] + prompt[start + len(ids) :]
        # The template does not write the message as it is.
        messages[-1] = {**messages[-1], "content": self.tokenizer.decode(ids[:keep])}
        return self.template.prompt(messages)

    def shorten(self, text: str | Sequence[Message], count: int) -> str | list[Message]:
        """See `Preprocessor`; in a conversation it shortens every message."""
        if isinstance(text, str):
            return self.tokenizer.beginning(text, count)
        return [
            {**message, "content": self.tokenizer.beginning(message["content"], count)}
            if isinstance(message.get("content"), str)
            else message
            for message in text
        ]

    def without_oldest(self, text: str | Sequence[Message]) -> list[Message] | None:
        """Return a conversation without its first exchange; None if there is only one."""
        if isinstance(text, str):
            return None
        start = 1 if text[0]["role"] == "system" else 0
        later = [i for i in range(start + 1, len(text)) if text[i]["role"] == "user"]
        return [*text[:start], *text[later[0] :]] if later else None


def new_preprocessor(task: str, tokenizer: Tokenizer) -> Preprocessor:
    """Return the preprocessor of a model that writes.

    Args:
        task: task of the model.
        tokenizer: tokenizer of the model, with or without a chat template.
    """
    return PREPROCESSORS[task](tokenizer)


def _decoder_only(tokenizer: Tokenizer) -> Preprocessor:
    if tokenizer.chat_template is None:
        return ContinuationPreprocessor(tokenizer)
    return ChatPreprocessor(ChatTemplate.of(tokenizer))


# The maker of prompts for each task that writes.
PREPROCESSORS: dict[str, Callable[[Tokenizer], Preprocessor]] = {
    "seq2seq": SourcePreprocessor,
    "causal": _decoder_only,
}
