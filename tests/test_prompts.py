"""Chat templates: ids by hand and by Hugging Face, and texts that try to be special tokens."""

from __future__ import annotations

import collections
import sys

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfx_transformer.errors import InputError
from tfx_transformer.text.messages import clean_messages
from tfx_transformer.text.prompts import (
    CHAT_TEMPLATE,
    ROLE_TOKENS,
    ChatTemplate,
    UnusableTemplateError,
)
from tfx_transformer.text.tokenizer import Tokenizer

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = ["Hello there, how are you?\n", "猫が好きです。", "It's 1234 o'clock.\t\tReally."]
PAD, START, END, SYSTEM, USER, ASSISTANT = range(6)
IM_START, IM_END = 6, 7


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS * 5, 320, [*ROLE_TOKENS, "<|im_start|>", "<|im_end|>"])


@pytest.fixture(scope="module")
def template(tokenizer):
    return ChatTemplate(CHAT_TEMPLATE, tokenizer)


@pytest.fixture(scope="module")
def chatml(tokenizer):
    return ChatTemplate(CHATML, tokenizer, end_id=IM_END)


def said(*contents, first="user"):
    """A conversation in which user and assistant take turns."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return [
        {"role": roles[number % 2], "content": content} for number, content in enumerate(contents)
    ]


def message_of(function, *arguments, **options):
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert all(line.startswith("  ") for line in message.split("\n")[1:])
    assert "\n" in message, "a remedy follows"
    return message


# By hand


def test_a_prompt_by_hand(template):
    encode = template.tokenizer.encode
    messages = [{"role": "system", "content": "Be kind."}, *said("Hi", "Hello!", "Bye")]
    assert template.prompt(messages) == [
        *(SYSTEM, *encode("Be kind."), END, USER, *encode("Hi"), END),
        *(ASSISTANT, *encode("Hello!"), END, USER, *encode("Bye"), END, ASSISTANT),
    ]


def test_turns_by_hand(template):
    encode = template.tokenizer.encode
    first = ([USER, *encode("Hi"), END, ASSISTANT], [*encode("Hello!"), END])
    second = ([USER, *encode("Bye"), END, ASSISTANT], [*encode(" See you."), END])
    messages = said("Hi", "Hello!", "Bye", " See you.")
    assert template.turns(messages) == [first, second]
    assert template.turns(messages[:3]) == [first], "what nobody answers is left out"
    assert template.turns(messages[:1]) == []
    assert template.continuation(messages[:3], 2) == second[0]


def test_two_answers_in_a_row(template):
    encode = template.tokenizer.encode
    messages = [*said("Hi", "Hello!"), {"role": "assistant", "content": "And?"}]
    assert template.turns(messages)[1] == ([ASSISTANT], [*encode("And?"), END])
    assert template.turns(said("Yes?", first="assistant")) == [
        ([ASSISTANT], [*encode("Yes?"), END])
    ]


def test_what_follows_an_end_token_belongs_to_the_next_prompt(chatml):
    encode = chatml.tokenizer.encode
    begin = [IM_START, *encode("user\nHi"), IM_END, *encode("\n")]
    ask = [IM_START, *encode("assistant\n")]
    assert chatml.turns(said("Hi", "Hello!", "Hi", "!")) == [
        ([*begin, *ask], [*encode("Hello!"), IM_END]),
        ([*encode("\n"), *begin, *ask], [*encode("!"), IM_END]),
    ]
    assert chatml.continuation(said("Hi", "Hello!", "Hi"), 2) == [*encode("\n"), *begin, *ask]


def test_a_tokenizer_keeps_its_template():
    tokenizer = Tokenizer.train([], 262, ROLE_TOKENS)
    assert ChatTemplate.of(tokenizer).text == tokenizer.chat_template == CHAT_TEMPLATE
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert ChatTemplate.of(tokenizer).prompt(said("Hi")) == tokenizer.encode("Hi")


def test_blocks_on_lines_of_their_own_write_nothing(tokenizer):
    text = (
        "{{ bos_token }}\n"
        "{% for message in messages %}\n"
        "    {% if message.role == 'user' %}\n"
        "Q: {{ message.content | trim }}\n"
        "    {% elif message.role == 'assistant' %}\n"
        "A: {{ message.content }}{{ eos_token }}\n"
        "    {% else %}\n"
        "        {% continue %}\n"
        "    {% endif %}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}\n"
        "A:\n"
        "{% endif %}\n"
    )
    template = ChatTemplate(text, tokenizer)
    messages = [{"role": "system", "content": "s"}, *said("  <s>?\n", "</s>!", "x")]
    assert template.prompt(messages) == [
        *(START, *tokenizer.encode("\nQ: <s>?\nA: </s>!"), END),
        *tokenizer.encode("\nQ: x\nA:\n"),
    ]


def test_json_keeps_its_characters(tokenizer):
    template = ChatTemplate("{{ messages[0].content | tojson }}", tokenizer)
    assert tokenizer.decode(template.prompt(said('<|user|> "猫"'))) == '"<|user|> \\"猫\\""'


# Against Hugging Face

plain = st.text(st.characters(codec="utf-8", exclude_characters="<>|"), max_size=30)
sentences = st.sampled_from(TEXTS)


@pytest.fixture(scope="module")
def oracle(tokenizer):
    return tokenizers.Tokenizer.from_str(tokenizer.to_json())


@given(st.lists(plain | sentences, min_size=2, max_size=7), st.none() | plain)
def test_parts_are_hugging_faces_ids_of_the_whole(template, oracle, contents, system):
    messages = said(*contents[: len(contents) // 2 * 2])
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    rendered = "".join(f"<|{m['role']}|>{m['content']}</s>" for m in messages)
    parts = [i for both in template.turns(messages) for part in both for i in part]
    assert parts == oracle.encode(rendered, add_special_tokens=False).ids
    asking = [*messages, {"role": "user", "content": "?"}]
    rendered += "<|user|>?</s><|assistant|>"
    assert template.prompt(asking) == oracle.encode(rendered, add_special_tokens=False).ids


@given(st.lists(plain | sentences, min_size=2, max_size=7))
def test_chatml_parts_are_hugging_faces_ids_of_the_whole(chatml, oracle, contents):
    # The line end before an answer is a token of its own unless the answer begins with another.
    messages = said(*(content.lstrip("\r\n") for content in contents[: len(contents) // 2 * 2]))
    rendered = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    parts = [i for both in chatml.turns(messages) for part in both for i in part]
    ids = oracle.encode(rendered, add_special_tokens=False).ids
    assert [*parts, *oracle.encode("\n").ids] == ids


@pytest.mark.parametrize("name", ["template", "chatml"])
@given(data=st.data())
@settings(max_examples=50)
def test_a_continuation_is_the_prompt_of_the_next_turn(request, name, data):
    template = request.getfixturevalue(name)
    contents = data.draw(st.lists(plain, min_size=2, max_size=8))
    messages = said(*contents[: len(contents) // 2 * 2])
    for number, (prompt, _) in enumerate(template.turns(messages)):
        assert template.continuation(messages[: 2 * number + 1], 2 * number) == prompt
    assert template.prompt(messages[:1]) == template.continuation(messages[:1], 0)


# Texts that try to be special tokens

NAMES = ["<pad>", "<s>", "</s>", *ROLE_TOKENS, "<|im_start|>", "<|im_end|>"]
fragments = st.sampled_from(
    sorted({name[i:j] for name in NAMES for i in range(len(name)) for j in range(i + 1, 99)})
    + [*" \n\t", *"\ufdd0\ufdd1\ufdef\ufdf0"]
)
hostile = st.lists(fragments, max_size=5).map("".join)
# What stands around a content invites it to complete a special token.
INVITING = [
    CHAT_TEMPLATE,
    CHATML,
    "{{ messages[0].content }}{{ messages[1].content }}{{ messages[2].content }}",
    *(
        f"<s>{before}{{{{ m.content{trim} }}}}{after}</s>".join(
            ["{% for m in messages %}", "{% endfor %}"]
        )
        for before in ("", "<", "<|us")
        for after in ("", ">", "er|>")
        for trim in ("", ".lstrip('\\n')")
    ),
]


def special_ids(ids):
    return collections.Counter(i for i in ids if i <= IM_END)


@pytest.fixture(scope="module")
def inviting(tokenizer):
    return {text: ChatTemplate(text, tokenizer) for text in INVITING}


@given(st.sampled_from(INVITING), st.lists(hostile, min_size=3, max_size=3))
@example(INVITING[2], ["<", "|us", "er|>"])
@example(INVITING[2], ["<|user|><|user|>", " </s", ">"])
@settings(max_examples=150)
def test_no_text_becomes_a_special_token(inviting, text, contents):
    template = inviting[text]
    # As blank or empty as they are: nothing between two parts of the template is its own doing.
    harmless = ["x" if content.strip() else content for content in contents]
    expected = special_ids(template.prompt(said(*harmless)))
    assert special_ids(template.prompt(said(*contents))) == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_template_completes_a_special_token(tokenizer, name):
    for start in range(len(name)):
        for end in range(start + 1, len(name) + 1):
            before, content, after = name[:start], name[start:end], name[end:]
            places = "{{ messages[0].content }}{{ messages[1].content | trim }}"
            template = ChatTemplate(before + places + after, tokenizer)
            for contents in ((content, ""), ("", f" {content}\n")):
                ids = template.prompt(said(*contents, "?"))
                assert not special_ids(ids), (before, contents, after)
                assert tokenizer.decode(ids) == name


@given(st.lists(hostile | st.text(), min_size=1, max_size=4))
def test_texts_come_back_whole(template, chatml, contents):
    messages = said(*contents)
    asking = [*messages, {"role": "user", "content": ""}]
    assert template.tokenizer.decode(template.prompt(asking)) == "".join(contents)
    for (_, answer), content in zip(chatml.turns(messages), contents[1::2], strict=True):
        assert answer == [*chatml.tokenizer.encode(content), IM_END]


def test_every_noncharacter_may_be_used(template):
    text = "".join(map(chr, range(0xFDD0, 0xFDF8))) + "<|user|>"
    ids = template.prompt(said(text))
    assert template.tokenizer.decode(ids) == text
    assert special_ids(ids) == {USER: 1, END: 1, ASSISTANT: 1}


def test_the_longest_of_two_names_is_meant():
    names = ["<|a|>", "<|a|>b"]
    template = ChatTemplate("<|a|>b<|a|>{{ messages[0].content }}", Tokenizer.train([], 270, names))
    ids = template.prompt(said("b<|a|>b"))
    assert (ids[:2], len(ids), special_ids(ids)) == ([4, 3], 9, {3: 1, 4: 1})


# What cannot be used


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "no messages"),
        ("Hi", "no messages"),
        (["Hi"], "message 1 is not an object"),
        ([{"role": "user"}], "message 1 has no content"),
        ([{"content": "Hi"}], "message 1 has no role"),
        ([*said("Hi"), {"role": "judge", "content": ""}], "message 2 has the role 'judge'"),
        ([{"role": ["user"], "content": ""}], r"has the role \['user'\]"),
        ([{"role": "user", "content": 3}], "content of type int"),
        ([{"role": "user", "content": "", "name": "x"}], "the key 'name', which would be lost"),
        ([{"role": "user", "content": None}], "content of type NoneType"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a part that is not a text"),
        ([{"role": "assistant", "content": "", "reasoning_content": 3}], "reasoning_content of ty"),
        ([{"role": "assistant", "content": "", "tool_calls": ["f"]}], "tool_calls that cannot be"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}], "tool_calls"),
        ([{"role": "user", "content": "", "tool_calls": [{}]}], "the key 'tool_calls'"),
    ],
)
def test_what_is_no_conversation_is_refused(template, messages, words):
    message = message_of(clean_messages, messages)
    with pytest.raises(InputError, match=words):
        raise InputError(message)
    for function in (template.prompt, template.turns):
        assert message_of(function, messages) == message


def test_a_prompt_ends_with_a_user(template):
    assert "message 2 is the last" in message_of(template.prompt, said("Hi", "Hello!"))
    assert "message 1 is not an answer" in message_of(template.continuation, said("a", "b", "c"), 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% for", "line 1: unexpected 'end of template'."),
        ("a\n\n{{ b", "line 3: "),
        ("{% endfor %}", "unknown tag 'endfor'"),
        ("{{ x | nothing }}", "No filter named 'nothing'."),
        ("x" * 65_537, "larger than 64 KiB"),
        ("猫" * 22_000, "larger than 64 KiB"),
        ("{{" + "(" * 20_000, "is not Jinja"),
    ],
)
def test_what_is_no_template_is_refused(tokenizer, text, words):
    assert words in message_of(ChatTemplate, text, tokenizer)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "conversation: roles must alternate."),
        ("{{ 1 / 0 }}", "division by zero."),
        ("{{ 'x'.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ messages[0].update(role='system') }}", "unsafe"),
        ("{{ nothing.content }}", "'nothing' is undefined."),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ],
)
def test_a_template_that_fails_says_why(tokenizer, text, words):
    assert words in message_of(ChatTemplate(text, tokenizer).prompt, said("Hi"))


# Reasoning of earlier turns is left out, and the last answer has a block for it even if empty.
THINKING = (
    "{% set ns = namespace(asked=-1) %}"
    "{% for m in messages if m.role == 'user' %}{% set ns.asked = messages.index(m) %}{% endfor %}"
    "{% for m in messages %}{% set reasoning = '' %}{% set content = m.content %}"
    "{% if m.reasoning_content is string %}{% set reasoning = m.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set reasoning = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and loop.index0 > ns.asked %}"
    "<think>{{ reasoning }}</think>{% endif %}{{ content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def spelled(tokenizer, text):
    """Ids of a text in which special tokens are meant."""
    return tokenizers.Tokenizer.from_str(tokenizer.to_json()).encode(text).ids


def test_of_a_template_that_changes_earlier_turns_each_answer_is_an_example(tokenizer):
    template = ChatTemplate(THINKING, tokenizer)
    messages = said("Hi", "Hello!", "Bye", "<think>Hm.</think>See you.", "2+2?", "4")
    messages[5]["reasoning_content"] = "Easy."
    expected = [
        ("<|user|>Hi</s><|assistant|>", "<think></think>Hello!</s>"),
        (
            "<|user|>Hi</s><|assistant|>Hello!</s><|user|>Bye</s><|assistant|>",
            "<think>Hm.</think>See you.</s>",
        ),
        (
            "<|user|>Hi</s><|assistant|>Hello!</s><|user|>Bye</s><|assistant|>See you.</s>"
            "<|user|>2+2?</s><|assistant|>",
            "<think>Easy.</think>4</s>",
        ),
    ]
    assert template.examples(messages) == [
        [(spelled(tokenizer, prompt), spelled(tokenizer, answer))] for prompt, answer in expected
    ]
    assert template.examples(messages[:2]) == [template.turns(messages[:2])]
    with pytest.raises(UnusableTemplateError, match="changes what it wrote before"):
        template.turns(messages)


def test_what_has_to_be_read_anew(tokenizer):
    template = ChatTemplate(THINKING, tokenizer)
    plain = ChatTemplate(CHAT_TEMPLATE, tokenizer)
    messages = said("Hi", "<think>Hm.</think>Hello!", "Bye")
    assert template.continuation(messages, 2) is None
    new = "<|user|>Bye</s><|assistant|>"
    assert template.prompt(messages) == spelled(
        tokenizer, "<|user|>Hi</s><|assistant|>Hello!</s>" + new
    )
    assert plain.continuation(messages, 2) == spelled(tokenizer, new)
    assert plain.examples(messages) == [plain.turns(messages)]


def test_a_stable_beginning_is_one_example(tokenizer):
    """From the third message on this template writes the first as a dot."""
    text = CHAT_TEMPLATE.replace(
        "message.content", "('.' if loop.first and messages|length > 4 else message.content)"
    )
    template = ChatTemplate(text, tokenizer)
    examples = template.examples(said("a", "b", "c", "d", "e", "f"))
    assert [len(example) for example in examples] == [2, 1]
    dotted = "<|user|>.</s><|assistant|>b</s><|user|>c</s><|assistant|>d</s><|user|>e</s>"
    assert examples[1][0][0] == spelled(tokenizer, dotted + "<|assistant|>")


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "</s>"}}}
WITH_TOOLS = [
    {"role": "user", "content": [{"type": "text", "text": "1 and "}, "</s>?"]},
    {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [CALL]},
    {"role": "tool", "name": "add", "content": "1</s>"},
    {"role": "assistant", "content": "Done.", "tool_calls": None},
]


def test_a_template_that_knows_nothing_of_tools_loses_nothing(tokenizer):
    encode = tokenizer.encode
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "</s>"}}\n</tool_call>'
    assert ChatTemplate(CHAT_TEMPLATE, tokenizer).turns(WITH_TOOLS) == [
        (
            [USER, *encode("1 and </s>?"), END, ASSISTANT],
            [*encode(f"<think>\nHm.\n</think>\n\n{call}"), END],
        ),
        (
            [USER, *encode("<tool_response>\n1</s>\n</tool_response>"), END, ASSISTANT],
            [*encode("Done."), END],
        ),
    ]
    asking = ChatTemplate(CHAT_TEMPLATE, tokenizer).prompt(WITH_TOOLS[:3])
    assert special_ids(asking) == {USER: 2, ASSISTANT: 2, END: 3}


def test_a_template_that_knows_tools_is_shown_them(tokenizer):
    text = (
        "{% for m in messages %}"
        "{% if m.role == 'tool' %}<|user|>{{ m.name }}={{ m.content }}"
        "{% else %}<|{{ m.role }}|>{{ m.reasoning_content }}{{ m.content }}"
        "{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
        "{% endfor %}{% endif %}</s>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    encode, template = tokenizer.encode, ChatTemplate(text, tokenizer)
    as_text = {"name": "add", "arguments": '{"a": 1, "b": "</s>"}'}
    flat = [WITH_TOOLS[0], {**WITH_TOOLS[1], "content": "", "tool_calls": [as_text]}]
    for messages in (WITH_TOOLS, [*flat, *WITH_TOOLS[2:]]):
        (_, called), (told, _) = template.turns(messages)
        assert called == [*encode('Hm.add{"a": 1, "b": "</s>"}'), END]
        assert told == [USER, *encode("add=1</s>"), END, ASSISTANT]


def test_a_generation_prompt_must_be_how_the_answer_begins(tokenizer):
    text = CHAT_TEMPLATE.replace("<|assistant|>{% endif", "<|assistant|> Well,{% endif")
    template = ChatTemplate(text, tokenizer)
    assert template.prompt(said("Hi"))[-1] != ASSISTANT
    message = message_of(template.turns, said("Hi", "Hello!"))
    assert "' Well,' becomes 'Hello!</s>'" in message


def test_answers_must_end(tokenizer):
    message = message_of(ChatTemplate(CHATML, tokenizer).turns, said("Hi", "</s>"))
    assert "does not end an answer with </s>" in message and "end_id" in message
    assert "id 99, is not a special token" in message_of(ChatTemplate, CHATML, tokenizer, end_id=99)


@pytest.mark.parametrize("name", ["猫", "<| a |>", "\n\n"])
def test_special_tokens_that_cannot_be_told_from_texts_are_refused(name):
    tokenizer = Tokenizer.train([], 270, [name])
    assert repr(name) in message_of(ChatTemplate, CHAT_TEMPLATE, tokenizer)


def test_without_jinja_the_package_is_named(tokenizer, monkeypatch):
    for module in ("jinja2", "jinja2.exceptions", "jinja2.sandbox"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install jinja2" in message_of(ChatTemplate, CHAT_TEMPLATE, tokenizer)


def test_a_tokenizer_without_roles_gets_no_template():
    """As plain text `<|user|>` could stand in a message too."""
    tokenizer = Tokenizer.train(["a text"], 300)
    with pytest.raises(InputError, match=r"special token '<\|system\|>'"):
        ChatTemplate.of(tokenizer)
    assert tokenizer.chat_template is None
