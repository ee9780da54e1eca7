"""Chat templates as lists of texts and special tokens, for `app/answers.js`.

A Jinja template is a program; a page has no Jinja. But most templates write each message between
two fixed texts. Those are found by rendering, and the lists that come of it are compared with the
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

# Contents that no template holds, and that end in blanks in the conversations compared.
_CONTENT = "\u2983{}\u2984"
_CONTENTS = (
    "How are you?",
    "  two\n blanks ",
    "元気ですか。\n\n1. はい",
    "{{ x }} <b>&amp;</b> '\"",
)


def chat_spec(template: ChatTemplate) -> dict[str, Any]:
    """Return what the template writes around messages: see `Assistant` in `app/answers.js`.

    Raises:
        InputError: the template does not write each message between two fixed texts.
    """
    for trim in (False, True):
        spec = _linear(template)
        if spec is not None and _agrees(template, spec | {"trim": trim}):
            written = {
                role: [_parts(template, t) for t in ts] for role, ts in spec["roles"].items()
            }
            begin = {name: _parts(template, text) for name, text in spec["begin"].items()}
            ask = _parts(template, spec["ask"])
            return {"begin": begin, "roles": written, "ask": ask, "trim": trim}
    raise InputError(
        f"{template.source}the chat template writes messages in a way that a page cannot repeat.\n"
        "  Templates work that put a fixed text before and behind each message. Chat by\n"
        "  `tfx-transformer chat`."
    )


def _linear(template: ChatTemplate) -> dict[str, Any] | None:
    """The texts around messages by role, as far as one conversation shows them."""
    try:
        turns = ("user", "assistant", "user", "assistant", "user")
        texts, ask = _around(template, turns)
    except (InputError, ValueError):
        return None
    # Between two contents: what is behind the first and before the second. A question is asked
    # with and without an answer to come, so what ends an answer is known from the end.
    try:
        closed, _ = _around(template, turns[:2], ask=False)
        opened, _ = _around(template, turns[:1], ask=False)
    except (InputError, ValueError):
        return None
    before_user_first, after_user = opened
    after_assistant = closed[2]
    if not closed[1].startswith(after_user) or not texts[2].startswith(after_assistant):
        return None
    before_assistant = closed[1][len(after_user) :]
    before_user = texts[2][len(after_assistant) :]
    if not before_user_first.endswith(before_user):
        return None
    begin = {"untold": before_user_first[: len(before_user_first) - len(before_user)]}
    roles = {"user": (before_user, after_user), "assistant": (before_assistant, after_assistant)}
    try:
        told, _ = _around(template, ("system", "user"), ask=False)
        system = told[1].removesuffix(before_user)
        if told[1].endswith(before_user):
            begin["told"] = told[0]
            roles["system"] = ("", system)
    except (InputError, ValueError):  # Gemma knows no system message
        pass
    begin.setdefault("told", "")
    return {"begin": begin, "roles": roles, "ask": ask}


def _around(
    template: ChatTemplate, roles: Sequence[str], ask: bool = True
) -> tuple[list[str], str]:
    """The texts before, between and behind the contents of a conversation, and what asks for an
    answer.

    Raises:
        ValueError: a content is not written once.
    """
    marks = [_CONTENT.format(number) for number in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    text = _rendered(template, messages, False)
    asked = _rendered(template, messages, True) if ask else text
    if not asked.startswith(text):
        raise ValueError("the question is not a beginning")
    parts, left = [], text
    for mark in marks:
        if left.count(mark) != 1:
            raise ValueError("a content is changed")
        part, _, left = left.partition(mark)
        parts.append(part)
    return [*parts, left], asked[len(text) :]


def _rendered(template: ChatTemplate, messages: list[dict[str, str]], ask: bool) -> str:
    return template.render(for_template(clean_messages(messages), template.text), ask)


def _agrees(template: ChatTemplate, spec: dict[str, Any]) -> bool:
    """Return True if the texts are those of the template, for conversations of several shapes."""
    shapes = [("user", "assistant") * turns + ("user",) for turns in range(4)]
    if "system" in spec["roles"]:
        shapes += [("system", *shape) for shape in shapes[:3]]
    contents = itertools.cycle(_CONTENTS)
    for shape in shapes:
        messages = [{"role": role, "content": next(contents)} for role in shape]
        try:
            expected = _rendered(template, messages, True)
        except InputError:
            return False
        if _written(messages, spec) != expected:
            return False
    return True


def _written(messages: list[dict[str, str]], spec: dict[str, Any]) -> str:
    parts = [spec["begin"]["told" if messages[0]["role"] == "system" else "untold"]]
    for message in messages:
        before, after = spec["roles"][message["role"]]
        content = message["content"].strip() if spec["trim"] else message["content"]
        parts += [before, content, after]
    return "".join([*parts, spec["ask"]])


def _parts(template: ChatTemplate, text: str) -> Parts:
    """A text of the template as texts and ids of special tokens."""
    parts: Parts = []
    end = 0
    for found in template.special.pattern.finditer(text):
        parts += [text[end : found.start()], template.special.ids[found[0]]]
        end = found.end()
    return [part for part in [*parts, text[end:]] if part != ""]
