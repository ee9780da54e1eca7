"""Chat templates as lists of texts and special tokens, for `app/answers.js`.

A Jinja template is a program, and a page has no Jinja. But most templates write each message
between two fixed texts. These texts are found by rendering, and their lists are compared with the
template on conversations of all shapes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.text.messages import clean_messages, for_template
from tfx_transformer.text.prompts import ChatTemplate

Parts = list[str | int]

# A mark that no template has, and contents of the compared conversations, some with blanks around.
_CONTENT = "\u2983{}\u2984"
_CONTENTS = (
    "How are you?",
    "  two\n blanks ",
    "元気ですか。\n\n1. はい",
    "{{ x }} <b>&amp;</b> '\"",
)


def chat_spec(template: ChatTemplate) -> dict[str, Any]:
    """Return the texts that the template writes around messages: see `app/answers.js`.

    A date that the template writes is that of today.

    Raises:
        InputError: the template does not write each message between two fixed texts.
    """
    for system, trim in itertools.product((True, False), (False, True)):
        spec = _linear(template, system)
        if spec is not None and _agrees(template, spec | {"trim": trim}):
            roles = {r: [_parts(template, t) for t in texts] for r, texts in spec["roles"].items()}
            begin = {name: _parts(template, text) for name, text in spec["begin"].items()}
            ask = _parts(template, spec["ask"])
            return {"begin": begin, "roles": roles, "ask": ask, "trim": trim}
    raise InputError(
        f"{template.source}the chat template writes messages in a way that a page cannot repeat.\n"
        "  Only templates that put a fixed text before and after each message work. Chat by\n"
        "  `tfx-transformer chat`."
    )


def _linear(template: ChatTemplate, system: bool) -> dict[str, Any] | None:
    """Return the texts around messages by role, or None if the template refuses or changes a
    message. A text between two messages counts as the assistant's.

    Args:
        system: True if a conversation may begin with a system message.
    """
    try:
        begin, before_answer, after_answer, ask = _around(template, ("user", "assistant", "user"))
        spec = {
            "begin": {"withoutSystem": begin, "withSystem": ""},
            "roles": {"user": ("", ""), "assistant": (before_answer, after_answer)},
            "ask": ask,
        }
        if system:
            begin, after_system, _ = _around(template, ("system", "user"))
            spec["begin"]["withSystem"], spec["roles"]["system"] = begin, ("", after_system)
    except (InputError, ValueError):  # Gemma refuses a system message
        return None
    return spec


def _around(template: ChatTemplate, roles: Sequence[str]) -> list[str]:
    """Return the texts before, between and after the contents of a conversation, with the prompt
    for an answer.

    Raises:
        ValueError: a content is not written exactly once.
    """
    marks = [_CONTENT.format(number) for number in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    left = _rendered(template, messages)
    parts = []
    for mark in marks:
        if left.count(mark) != 1:
            raise ValueError("a content is changed")
        part, _, left = left.partition(mark)
        parts.append(part)
    return [*parts, left]


def _rendered(template: ChatTemplate, messages: list[dict[str, str]]) -> str:
    cleaned = for_template(clean_messages(messages), template.text)
    return template.render(cleaned, add_generation_prompt=True)


def _agrees(template: ChatTemplate, spec: dict[str, Any]) -> bool:
    """Return True if the texts give the template's prompt for conversations of several shapes."""
    shapes = [("user", "assistant") * turns + ("user",) for turns in range(4)]
    if "system" in spec["roles"]:
        shapes += [("system", *shape) for shape in shapes[:3]]
    for shape, first in itertools.product(shapes, range(len(_CONTENTS))):
        contents = itertools.islice(itertools.cycle(_CONTENTS), first, None)
        pairs = zip(shape, contents, strict=False)
        messages = [{"role": role, "content": content} for role, content in pairs]
        try:
            expected = _rendered(template, messages)
        except InputError:
            return False
        if _written(messages, spec) != expected:
            return False
    return True


def _written(messages: list[dict[str, str]], spec: dict[str, Any]) -> str:
    parts = [spec["begin"]["withSystem" if messages[0]["role"] == "system" else "withoutSystem"]]
    for message in messages:
        before, after = spec["roles"][message["role"]]
        content = message["content"].strip() if spec["trim"] else message["content"]
        parts += [before, content, after]
    return "".join([*parts, spec["ask"]])


def _parts(template: ChatTemplate, text: str) -> Parts:
    """Return a text of the template as a list of texts and ids of special tokens."""
    parts: Parts = []
    end = 0
    for found in template.special.pattern.finditer(text):
        parts += [text[end : found.start()], template.special.ids[found[0]]]
        end = found.end()
    return [part for part in [*parts, text[end:]] if part != ""]
