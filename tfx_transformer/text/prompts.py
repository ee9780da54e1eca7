"""Conversations to token ids: chat templates in Jinja, with the conventions of Hugging Face."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from tfx_transformer.errors import InputError
from tfx_transformer.renamed import old_method
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.messages import (
    Message,
    clean_messages,
    for_template,
    map_texts,
    message_texts,
)
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.text.tools import Call, Tools, read_call, same_call

ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")

# Every message is its role token, its text and the end token.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>' + message.content }}</s>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Templates of real models stay below this; a bundle's may come from anywhere.
MAX_TEMPLATE_BYTES = 64 * 1024
# Special tokens of real models have up to 30 characters; every place to cut one is kept.
_MAX_NAME, _MAX_NAMES = 100, 1_000_000
_MAX_DETAIL = 500  # characters of the error of a template, and of the format of a date
_MARKS = range(0xFDD0, 0x110000)  # the noncharacters U+FDD0 to U+FDEF first


class UnusableTemplateError(InputError):
    """A chat template that cannot do what is needed, for any conversation."""


class CallForm(NamedTuple):
    """The form of an answer that calls a tool: `before`, {"name": …, arguments: {…}}, `after`.

    tools: the tools that may be called; arguments: key of the arguments; others: further keys of
    the object with their values, such as an id; special: ids of the special tokens in `before` and
    `after`.
    """

    tools: Tools
    before: str
    after: str
    arguments: str
    others: Mapping[str, Any] = MappingProxyType({})
    special: Mapping[str, int] = MappingProxyType({})


class ChatTemplate:
    """Token ids of conversations, as a Jinja template frames them.

    Special tokens that the template writes become their ids; the text of a message never does,
    alone or together with the text around it, whatever tokens it names. (This holds for templates
    that write a content whole or stripped of blanks, not for one that rearranges its characters.)
    The text between two special tokens is encoded as one piece.

    The template sees what `transformers` shows it: `messages`, `add_generation_prompt`, `tools`
    (those of the tokenizer, or None), `documents` (None), the tokenizer's tokens by their role
    (`bos_token`, `eos_token`, …), `raise_exception(text)` and `strftime_now(format)`. It runs in a
    sandbox with a bounded cost: see `text.sandbox`.

    Args:
        text: the template, at most 64 KiB.
        tokenizer: its special tokens have 2 to 100 characters and no blanks.
        end_id: the token that ends an answer; that of the tokenizer by default.

    Raises:
        InputError: Jinja is not installed, the template cannot be compiled, or `end_id` or a
            special token cannot be used. An error in the tokenizer's own template names its file.
    """

    def __repr__(self) -> str:
        return f"ChatTemplate: {short_repr(self.text)}, answers end with {self.end_token!r}"

    def __init__(self, text: str, tokenizer: Tokenizer, end_id: int | None = None) -> None:
        self.text = text
        self.tokenizer = tokenizer
        self.end_id = tokenizer.end_id if end_id is None else end_id
        names = {index: name for name, index in tokenizer.special_tokens.items()}
        if self.end_id not in names:
            raise InputError(
                f"the end of an answer, id {self.end_id}, is not a special token.\n"
                f"  Special tokens: {', '.join(tokenizer.special_tokens)}."
            )
        self.end_token = names[self.end_id]
        self.special = _SpecialTokens(tokenizer)
        own = text == tokenizer.chat_template and tokenizer.chat_template_file
        self.source = f"{own}: " if own else ""
        self._compiled = _compile(text, tokenizer.names, self.source)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> ChatTemplate:
        """Return the tokenizer's own template; if it has none, it gets `CHAT_TEMPLATE`.

        Answers end with the tokenizer's end token, or with the token that the template of a
        checkpoint writes after an answer instead (Gemma: `<end_of_turn>`).

        Raises:
            InputError: it has no template and lacks the tokens of the roles: a message could forge
                them as plain text.
        """
        if tokenizer.chat_template is None:
            if missing := [t for t in ROLE_TOKENS if t not in tokenizer.special_tokens]:
                raise InputError(
                    f"the tokenizer has no special token {missing[0]!r}, so a message could "
                    "imitate another role.\n"
                    "  Pre-train with a tokenizer that `pretraining` makes, not with another "
                    "bundle's."
                )
            tokenizer.chat_template = CHAT_TEMPLATE
        template = cls(tokenizer.chat_template, tokenizer)
        return template if tokenizer.settings is None else template._with_own_end()

    def _with_own_end(self) -> ChatTemplate:
        """Return the template with the end token that it writes after an answer."""
        roles = ("user", "assistant")
        try:
            conversation = _Conversation(self, [{"role": r, "content": "a"} for r in roles])
            start = len(conversation.text(1, add_generation_prompt=True))
            written = self.special.pattern.findall(conversation.text(2), start)
        except InputError:  # it may need other messages; an error of real ones reaches the user
            return self
        if not written or self.end_token in written:
            return self
        return ChatTemplate(self.text, self.tokenizer, self.special.ids[written[0]])

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return the text that the template writes for messages, with special tokens.

        Args:
            tools: declarations of tools.

        Raises:
            InputError: the template fails, or takes more than its allowance.
        """
        variables = {"add_generation_prompt": add_generation_prompt, "tools": tools}
        environment: Any = self._compiled.environment  # a `ChatEnvironment`
        try:
            return environment.render_template(
                self._compiled, messages, documents=None, **variables
            )
        except Exception as error:  # a template is a program: it can fail in any way
            raise InputError(
                f"{self.source}the chat template fails on this conversation: {_detail(error)}\n"
                "  Change the messages, or the template."
            ) from error

    rendered = old_method("ChatTemplate.rendered", "render")

    def call_form(self) -> CallForm | None:
        """Return the form in which the template writes a call of one of the tokenizer's tools; None
        without tools, or if a call is not one JSON object between two texts."""
        tools = self.tokenizer.tools
        if tools is None:
            return None
        call = Call(next(iter(tools.parameters)), {"a": 1})
        try:
            answer = self._text_of(call)
        except InputError:  # it may need other messages; an error of real ones reaches the user
            return None
        start, end = answer.find("{"), answer.rfind("}") + 1
        try:
            written = json.loads(answer[start:end])
        except ValueError:
            return None
        arguments = [key for key, value in written.items() if value == call.arguments]
        if written.pop("name", "") != call.name or len(arguments) != 1:
            return None
        del written[arguments[0]]
        before, after = answer[:start], answer[end:]
        names = set(self.special.pattern.findall(before + after))
        special = {name: self.special.ids[name] for name in sorted(names)}
        return CallForm(tools, before, after, arguments[0], written, special)

    def check_calls(self) -> None:
        """Raise if no reader of answers would find the calls that the template writes.

        Raises:
            UnusableTemplateError: it writes a call of one of the tokenizer's tools in an unknown
                form.
        """
        if self.tokenizer.tools is None:
            return
        call = Call(next(iter(self.tokenizer.tools.parameters)), {"a": 1})
        try:
            answer = self._text_of(call)
        except InputError:
            return
        if not same_call(read_call(self.special.pattern.sub("", answer)), call):
            raise UnusableTemplateError(
                f"{self.source}the chat template writes a call of a tool as {short_repr(answer)}, "
                "which is not read as a call.\n"
                '  Choose a base that writes {"name": …, "arguments": {…}}, alone or between tags, '
                "as those of\n  Qwen, Hermes, Llama 3 and Mistral do."
            )

    def _text_of(self, call: Call) -> str:
        """Return the answer that makes a call, as the template writes it, without its end.

        Raises:
            InputError: the template cannot write it.
        """
        asked = {"role": "user", "content": "a"}
        conversation = _Conversation(self, [asked, call.message()])
        prompt, answered = conversation.answer(2)
        return conversation.plain(answered[len(prompt) :].removesuffix(self.end_token))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a conversation up to where its next answer begins.

        Raises:
            InputError: the messages are not a conversation, the last one is neither a user's nor a
                tool's, or the template fails.
        """
        conversation = _Conversation(self, messages)
        return conversation.ids(conversation.question(), begins=True)

    def continuation(self, messages: Sequence[Message], seen: int) -> list[int] | None:
        """Return the ids between an answer and the next, which a model that keeps its cache reads.

        Args:
            messages: the whole conversation, the last message a user's.
            seen: number of messages the model has read and written, the last of them an answer; its
                end token counts as seen. 0 begins a conversation.

        Returns: None if the template now writes seen messages in another way, such as without
            earlier reasoning: then the model must read `prompt` from where it differs.

        Raises:
            InputError: as in `prompt`, or message number `seen` is not an answer.
        """
        conversation = _Conversation(self, messages)
        text = conversation.question()
        try:
            before = conversation.answer(seen)[1] if seen else ""
        except UnusableTemplateError:
            return None
        if not text.startswith(before):
            return None
        return conversation.ids(text[len(before) :], begins=not before)

    def examples(self, messages: Sequence[Message]) -> list[list[tuple[list[int], list[int]]]]:
        """Return examples to train on: for each answer the prompt ids that are new before it, and
        the ids of the answer, end token included.

        One example is a whole conversation, unless the template changes earlier turns once the
        conversation goes on, such as by leaving out earlier reasoning. The next answer then begins
        a new example, with everything before it as its prompt: so each answer is learned after the
        prompt that asks for it.

        Text that the template writes after an end token belongs to the prompt of the next answer;
        text after the last answer is left out.

        Raises:
            InputError: not a conversation, or the template fails on it.
            UnusableTemplateError: the template does not end answers with `end_id`, or the
                conversation with the answer does not begin with its prompt.
        """
        conversation = _Conversation(self, messages)
        examples: list[list[tuple[list[int], list[int]]]] = []
        before = None
        for count, message in enumerate(messages, start=1):
            if message["role"] != "assistant":
                continue
            prompt, answered = conversation.answer(count)
            if before is None or not prompt.startswith(before):
                examples.append([])
                before = ""
            ids = conversation.ids(prompt[len(before) :], begins=not before)
            answer = conversation.ids(answered[len(prompt) :], begins=not prompt)
            examples[-1].append((ids, answer))
            before = answered
        return examples

    def turns(self, messages: Sequence[Message]) -> list[tuple[list[int], list[int]]]:
        """Return the one example of `examples`, of a template that never changes earlier turns.

        Raises:
            InputError: as in `examples`.
            UnusableTemplateError: there are several examples.
        """
        examples = self.examples(messages)
        if len(examples) > 1:
            raise UnusableTemplateError(
                "the chat template changes what it wrote before when the conversation goes on.\n"
                "  Its answers are not one text: use `examples`, or change the template."
            )
        return examples[0] if examples else []


class _Conversation:
    """Messages in a template, their texts marked so that no special token is seen in them.

    The mark is a character that occurs nowhere else. Rendered texts hold it; `ids` leaves it out.
    """

    def __init__(self, template: ChatTemplate, messages: Sequence[Message]) -> None:
        messages = for_template(clean_messages(messages), template.text)
        self._template = template
        special = template.special
        tools = [] if template.tokenizer.tools is None else template.tokenizer.tools.declarations
        used = set(template.text).union(
            *special.ids, *(t for m in [*messages, *tools] for t in message_texts(m))
        )
        mark = self._mark = next(mark for mark in map(chr, _MARKS) if mark not in used)
        self._messages, declared = (
            [map_texts(one, lambda text: special.guarded(text, mark)) for one in several]
            for several in (messages, tools)
        )
        self._tools = declared or None

    def text(self, count: int, add_generation_prompt: bool = False) -> str:
        """Return the first `count` messages as the template writes them."""
        return self._template.render(self._messages[:count], add_generation_prompt, self._tools)

    def plain(self, text: str) -> str:
        """Return a text that `text` has rendered, without marks."""
        return text.replace(self._mark, "")

    def question(self) -> str:
        """Return the text of all messages up to where the next answer begins."""
        role = self._messages[-1]["role"]
        if role not in ("user", "tool"):
            raise InputError(
                f"message {len(self._messages)} is the last and has the role {role!r}.\n"
                "  Expected a message of the user, or of a tool, which is answered."
            )
        return self.text(len(self._messages), add_generation_prompt=True)

    def answer(self, count: int) -> tuple[str, str]:
        """Return the text before the answer that is message `count`, and the text from the first
        message to the end token of that answer."""
        if self._messages[count - 1]["role"] != "assistant":
            raise InputError(f"message {count} is not an answer.\n  Its role must be 'assistant'.")
        prompt = self.text(count - 1, add_generation_prompt=True)
        text = self.text(count)
        _check_prefix(prompt, text)
        for found in self._template.special.pattern.finditer(text, len(prompt)):
            if found[0] == self._template.end_token:
                return prompt, text[: found.end()]
        raise UnusableTemplateError(
            f"the chat template does not end an answer with {self._template.end_token}.\n"
            "  A model trained with it could not learn to stop. Name the token that it writes\n"
            "  there (end_id=...), or change the template."
        )

    def ids(self, text: str, begins: bool) -> list[int]:
        """Return the ids of a text that `text` has rendered; begins: True if nothing is before."""
        tokenizer, special = self._template.tokenizer, self._template.special
        encode = tokenizer.encode if begins else tokenizer.encode_after
        ids: list[int] = []
        end = 0
        for found in special.pattern.finditer(text):
            ids += encode(self.plain(text[end : found.start()]))
            ids.append(special.ids[found[0]])
            end, encode = found.end(), tokenizer.encode_after
        return ids + encode(self.plain(text[end:]))


class _SpecialTokens:
    """Finds special tokens in a text, and marks a content so that it does not hold or complete one.

    ids: name to id; pattern: matches any name, the longest where several begin.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.ids = tokenizer.special_tokens
        for name in self.ids:
            if not 2 <= len(name) <= _MAX_NAME or re.search(r"\s", name):
                raise InputError(
                    f"the special token {name[:_MAX_NAME]!r} is not usable in a chat template.\n"
                    f"  Expected 2 to {_MAX_NAME} characters, and no blanks."
                )
        if sum(map(len, self.ids)) > _MAX_NAMES:
            raise InputError(
                "the special tokens are too many for a chat template.\n"
                f"  Expected at most {_MAX_NAMES:,} characters of names."
            )
        longest_first = sorted(self.ids, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)))
        # Looking ahead finds tokens that overlap, too.
        self._first = re.compile(f"(?s)(?={self.pattern.pattern}).")
        cuts = [(name[:cut], name[cut:]) for name in self.ids for cut in range(1, len(name))]
        self._prefixes, self._suffixes = (tuple(set(parts)) for parts in zip(*cuts, strict=True))
        self._names = " ".join(self.ids)

    def guarded(self, content: str, mark: str) -> str:
        """Return the content with `mark` inside every special token that it holds, and at an end
        that could form one with the text beyond it."""
        core = content.strip()  # as templates do; special tokens hold no blanks
        if not core:
            return content
        guarded = self._first.sub(lambda found: found[0] + mark, core)
        if core in self._names or core.startswith(self._suffixes):
            guarded = mark + guarded
        if core.endswith(self._prefixes):
            guarded += mark
        start = content.index(core)
        return content[:start] + guarded + content[start + len(core) :]


def _check_prefix(prompt: str, text: str) -> None:
    """Refuse a template whose prompt is not how the conversation with the answer begins."""
    if not text.startswith(prompt):
        at = len(os.path.commonprefix([prompt, text]))
        raise UnusableTemplateError(
            "the chat template cannot be used for training: it asks for an answer in another way "
            "than it writes one.\n"
            f"  {prompt[at : at + 40]!r} becomes {text[at : at + 40]!r} with the answer.\n"
            "  A prompt must be how the conversation with the answer begins. Change the template."
        )


def _compile(text: str, names: Mapping[str, str], source: str):
    try:
        import jinja2

        from tfx_transformer.text.sandbox import ChatEnvironment
    except ImportError as error:
        raise InputError(
            "a model with a chat template needs Jinja.\n  pip install jinja2"
        ) from error

    def raise_exception(message: str):
        raise jinja2.TemplateError(message)

    if len(text.encode(errors="replace")) > MAX_TEMPLATE_BYTES:
        raise InputError(
            f"{source}the chat template is larger than 64 KiB.\n  Expected 64 KiB at most."
        )
    environment = ChatEnvironment(dict(names, raise_exception=raise_exception, strftime_now=_now))
    try:
        return environment.compile_template(text)
    except Exception as error:  # hostile text can make the compiler fail in any way
        line = getattr(error, "lineno", None)
        where = "" if line is None else f", line {line}"
        raise InputError(
            f"{source}the chat template is not Jinja that can be run{where}: {_detail(error)}\n"
            "  Expected the chat_template that transformers saves."
        ) from error


def _now(form: str) -> str:
    if len(form) > _MAX_DETAIL:
        raise ValueError("a format of dates is too long")
    return datetime.datetime.now().strftime(form)


def _detail(error: Exception) -> str:
    message = str(getattr(error, "message", None) or error)  # Jinja's, without the line again
    text = " ".join(message.split()) or type(error).__name__
    text = text if len(text) <= _MAX_DETAIL else f"{text[:_MAX_DETAIL]} …"
    return text if text.endswith(".") else f"{text}."
