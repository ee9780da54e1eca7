"""Instructions from files to batches: shapes of files, what is wrong in them, weights by hand."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_transformer.data.chat_records import user_text
from tfx_transformer.data.conversations import (
    Conversations,
    add_turns,
    read_instructions,
    split_conversations,
)
from tfx_transformer.data.instruction_batches import encode_conversation, instructions
from tfx_transformer.data.instructions_summary import describe_instructions
from tfx_transformer.data.splits import split_by_key
from tfx_transformer.data.tables import BadRow
from tfx_transformer.data.translation_pair import Pairs, split_pairs
from tfx_transformer.errors import InputError
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer

END, SYSTEM, USER, ASSISTANT = range(2, 6)


@pytest.fixture(scope="module")
def template():
    """A tokenizer without merges: a token is a byte."""
    return ChatTemplate(CHAT_TEMPLATE, Tokenizer.train([], 262, ROLE_TOKENS))


@pytest.fixture
def write(tmp_path):
    """Writes bytes, text, rows (.csv) or one JSON value a line, and returns the path."""

    def write_file(content, name="file.jsonl"):
        path = tmp_path / name
        if isinstance(content, bytes | str):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        elif name.endswith(".csv"):
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(content)
        else:
            path.write_text("".join(json.dumps(value) + "\n" for value in content))
        return path

    return write_file


def said(*contents):
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]


def of(*conversations, **fields):
    rows = list(range(2, 2 + len(conversations)))
    return Conversations([said(*contents) for contents in conversations], rows, **fields)


def message_of(function, *arguments, **options):
    with pytest.raises(InputError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert all(line.startswith("  ") for line in message.split("\n")[1:]), message
    assert "\n" in message, "a remedy follows"
    return message


# CSV


def test_columns_become_messages(write):
    rows = [
        ["id", "instruction", "input", "output"],
        ["1", "Add.", "1, 2", "3"],
        ["2", "Hi", "", "H"],
    ]
    path = write(rows, "file.csv")
    read = read_instructions(path)
    assert read.messages == [said("Add.\n\n1, 2", "3"), said("Hi", "H")]
    assert (read.rows, read.path, len(read)) == ([2, 3], str(path), 2)
    assert read.columns == {"instruction": "instruction", "input": "input", "output": "output"}
    assert user_text("Add.", "1, 2") == "Add.\n\n1, 2"
    assert user_text("Add. ", " \n") == user_text("Add. ") == "Add. "


def test_the_input_column_may_be_missing_unless_it_is_named(write):
    path = write([["instruction", "output", "context"], ["a", "b", ""]], "file.csv")
    read = read_instructions(path)
    assert read.messages == [said("a", "b")]
    assert read.columns == {"instruction": "instruction", "output": "output"}
    assert read_instructions(path, input="context").messages == [said("a", "b")]
    assert "no column 'hint'" in message_of(read_instructions, path, input="hint")
    assert "no column 'answer'" in message_of(read_instructions, path, output="answer")


@pytest.mark.parametrize("header", ["Input", " input"])
def test_a_slip_in_the_name_of_the_input_column_is_no_missing_column(write, header):
    path = write([["instruction", header, "output"], ["a", "x", "b"]], "file.csv")
    assert repr(header) in message_of(read_instructions, path)
    assert read_instructions(path, input=header).messages == [said("a\n\nx", "b")]


def test_bad_rows_of_a_csv_are_refused_or_listed(write):
    rows = [["instruction", "input", "output"], ["a", "", " "], ["", "x", "y"], ["a", "", "b"]]
    path = write(rows, "file.csv")
    assert "row 2: column 'output' is empty" in message_of(read_instructions, path)
    read = read_instructions(path, skip_bad_rows=True)
    assert (read.messages, read.rows) == ([said("a", "b")], [4])
    assert [(bad.row, bad.column) for bad in read.bad_rows] == [(2, "output"), (3, "instruction")]


def test_real_data_is_read_whole(shared_data):
    for path in sorted((shared_data / "instruction").rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            expected = list(csv.DictReader(file))
        read = read_instructions(path)
        assert read.answers() == [row["output"] for row in expected]
        for prompt, row in zip(read.prompts(), expected, strict=True):
            (message,) = prompt
            assert message["content"].startswith(row["instruction"])
            assert message["content"].endswith(row["input"])


# JSONL


def test_both_shapes_of_lines(write):
    long = [{"role": "system", "content": "s"}, *said("a", "b", "c", "d")]
    lines = [
        {"messages": long, "id": 7},
        {"instruction": "Add.", "input": "1, 2", "output": "猫"},
        {"output": "y", "instruction": "x"},
    ]
    read = read_instructions(write(lines))
    assert read.messages == [long, said("Add.\n\n1, 2", "猫"), said("x", "y")]
    assert read.rows == [1, 2, 3]
    assert read.texts() == ["s", "a", "b", "c", "d", "Add.\n\n1, 2", "猫", "x", "y"]
    assert read.prompts() == [long[:4], said("Add.\n\n1, 2"), said("x")]
    assert read.answers() == ["d", "猫", "y"]
    assert read.first_prompts() == ["a", "Add.\n\n1, 2", "x"]
    assert read.take([2, 0]).rows == [3, 1]
    named = write([{"q": "x", "a": "y", "c": ""}])
    assert read_instructions(named, "q", "c", "a").messages == [said("x", "y")]


def test_a_system_message_for_those_that_have_none(write, template):
    own = [{"role": "system", "content": "own"}, *said("a", "b")]
    path = write([{"messages": own}, {"instruction": "c", "output": "d"}])
    first = {"role": "system", "content": "Be kind."}
    read = read_instructions(path, system="Be kind.")
    assert read.messages == [own, [first, *said("c", "d")]]
    assert template.turns(read.messages[1])[0][0][0] == SYSTEM


def test_lines_are_counted_as_an_editor_does(write):
    line = b'{"instruction": "a\\u2028", "output": "b\xe2\x80\xa8"}'
    path = write(b"\xef\xbb\xbf" + line + b"\r\n\r\n \t\n" + line + b"\n" + line)
    read = read_instructions(path)
    assert read.rows == [1, 4, 5]
    assert read.messages == [said("a\u2028", "b\u2028")] * 3


GOOD = {"instruction": "a", "output": "b"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"instruction": "a"', "not JSON from character 20 on: Expecting ',' delimiter"),
        ('{"instruction": "a",} x', "not JSON from character"),
        ("[" * 100_000, "nested too deep"),
        ('{"n": ' + "9" * 5000 + "}", "too long a number, or is nested too deep"),
        ('["a", "b"]', "not a JSON object but a list"),
        ("null", "not a JSON object but a NoneType"),
        ('{"output": "b"}', "there is no key 'instruction'"),
        ('{"instruction": "a", "output": 3}', "'output' is not a text but of type int"),
        ('{"instruction": "a", "input": 3, "output": "b"}', "'input' is not a text"),
        ('{"instruction": " ", "output": "b"}', "'instruction' is empty"),
        ('{"instruction": "a", "output": "b", "output": "c"}', "'output' is twice"),
        ('{"instruction": "a", "output": "\\ud83d"}', "message 2 holds a NUL character or half"),
        ('{"instruction": "a\\u0000", "output": "b"}', "message 1 holds a NUL"),
        ('{"messages": "Hi"}', "there are no messages"),
        ('{"messages": []}', "there are no messages"),
        ('{"messages": ["Hi"]}', "message 1 is not an object"),
        ('{"messages": [{"role": "judge", "content": "a"}]}', "message 1 has the role 'judge'"),
        ('{"messages": [{"role": "user", "content": null}]}', "content of type NoneType"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "no message of a user"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "not an answer but the user's"),
        (json.dumps({"messages": said("a", "\n")}), "message 2 is empty"),
    ],
)
def test_bad_lines_are_refused_or_listed(write, line, words):
    good = json.dumps(GOOD)
    path = write(f"{good}\n{line}\n{good}\n")
    message = message_of(read_instructions, path)
    assert message.startswith(f"{path}, line 2: ") and words in message.split("\n")[0]
    read = read_instructions(path, skip_bad_rows=True)
    assert (read.rows, read.messages) == ([1, 3], [said("a", "b")] * 2)
    ((number, _, reason, values),) = map(
        lambda bad: (bad.row, bad.column, bad.reason, bad.values), read.bad_rows
    )
    assert (number, values) == (2, (line,)) and words in reason
    assert "every line after it is bad too" in message_of(
        read_instructions, write(line), skip_bad_rows=True
    )


def test_a_line_that_is_too_long_is_left_out_whole(write, monkeypatch):
    monkeypatch.setattr("tfx_transformer.data.json_records.LONGEST_LINE", 2000)
    good = json.dumps(GOOD)
    for size in (2000, 2001, 2002, 4001, 9999):
        line = "猫" * (size // 3) + " " * (size % 3 - 1) + "\n"
        path = write(f"{good}\n{line}{good}")
        message = message_of(read_instructions, path)
        assert ("over 2,000 bytes" in message) == (len(line.encode()) > 2000), size
        read = read_instructions(path, skip_bad_rows=True)
        assert read.rows == [1, 3], size
        (bad,) = read.bad_rows
        assert bad.row == 2 and bad.values[0].startswith("猫猫")
        assert len(bad.values[0]) <= 1000


@pytest.mark.parametrize(
    ("content", "line", "byte", "value"),
    [
        (b'{"instruction": "\xff', 1, 17, "ff"),
        (b"\xef\xbb\xbf\n" + b" \xe7\x8c", 2, 5, "e7"),
        (b"\xef\xbb\xbf \x93", 1, 4, "93"),
        (json.dumps(GOOD).encode("utf-16"), 1, 0, "ff"),
    ],
)
def test_the_first_byte_that_is_no_utf8_is_named(write, content, line, byte, value):
    for skip in (False, True):
        message = message_of(read_instructions, write(content), skip_bad_rows=skip)
        assert (
            f"line {line}: not UTF-8 text, from byte {byte} of the file on (0x{value})" in message
        )


def test_files_that_are_none(write, tmp_path):
    assert "no conversation in it" in message_of(read_instructions, write(b""))
    assert "no conversation in it" in message_of(read_instructions, write("\n \r\n"))
    assert "No such file" in message_of(read_instructions, tmp_path / "none.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    assert "Is a directory" in message_of(read_instructions, tmp_path / "folder.jsonl")
    message = message_of(read_instructions, write("[]", "file.xml"))
    assert "tables, .jsonl and .json" in message
    assert "no conversation in it" in message_of(read_instructions, write(" [ ] ", "file.json"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "instruction", "input", "output"])
            | st.text(max_size=3),
            values | st.sampled_from(["user", "assistant"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9)
texts = texts.filter(str.strip)
messages = st.lists(st.tuples(texts, texts), min_size=1, max_size=3).map(
    lambda turns: said(*(text for turn in turns for text in turn))
)
lines = st.one_of(
    json_values.map(lambda value: (json.dumps(value), None)),
    messages.map(lambda m: (json.dumps({"messages": m}, ensure_ascii=False), m)),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=9).map(
        lambda text: (text, None)
    ),
)


@given(st.lists(lines, min_size=1, max_size=6))
def test_every_line_is_read_or_listed(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes("\n".join(line for line, _ in lines).encode())
    there = [n for n, (line, _) in enumerate(lines, 1) if line.strip(" \t\r")]
    expected = {n: messages for n, (_, messages) in enumerate(lines, 1) if messages}
    try:
        read = read_instructions(path, skip_bad_rows=True)
    except InputError:
        assert not expected
        return
    assert sorted(read.rows + [bad.row for bad in read.bad_rows]) == there
    kept = dict(zip(read.rows, read.messages, strict=True))
    assert {n: kept[n] for n in expected} == expected
    for messages in kept.values():
        assert messages[-1]["role"] == "assistant"
        assert all(message["content"].strip() for message in messages)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_in_words(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content)
    message_of(read_instructions, path, skip_bad_rows=True)


# Other shapes


def shapes():
    """Conversations as they are published, and the messages they hold."""
    talk = [{"role": "system", "content": "s"}, *said("a", "b", "c", "d")]
    speakers = ("system", "human", "gpt", "human", "gpt")
    spoken = [{"from": s, "value": m["content"]} for s, m in zip(speakers, talk, strict=True)]
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in talk]
    return [
        ({"conversations": spoken, "id": 3}, talk),
        ({"system": "s", "conversations": spoken[1:]}, talk),
        ({"conversation": talk}, talk),
        ({"conversations": spoken[1:], "system": ""}, talk[1:]),
        ({"messages": parts}, talk),
        ({"messages": [{**m, "name": None, "tool_calls": None} for m in talk]}, talk),
        ({"prompt": "a", "completion": "b"}, said("a", "b")),
        ({"prompt": talk[:4], "completion": talk[4:]}, talk),
        ({"instruction": "x", "output": "y", "prompt": "a", "completion": "b"}, said("x", "y")),
        ({"instruction": "x", "input": None, "output": "y"}, said("x", "y")),
    ]


@pytest.mark.parametrize("name", ["file.jsonl", "file.json", "lines.json"])
def test_published_shapes(write, name):
    trees, expected = zip(*shapes(), strict=True)
    if name == "file.json":
        read = read_instructions(write(json.dumps(trees, indent=2), name))
    else:
        read = read_instructions(write(trees, name))
    assert read.messages == list(expected)
    assert read.rows == list(range(1, len(expected) + 1))


def test_prompts_and_completions_of_a_csv(write):
    path = write([["prompt", "completion"], ["a", "b"]], "file.csv")
    read = read_instructions(path)
    assert (read.messages, read.columns) == (
        [said("a", "b")],
        {"instruction": "prompt", "output": "completion"},
    )
    both = write([["prompt", "completion", "instruction"], ["a", "b", "c"]], "both.csv")
    assert "no column 'output'" in message_of(read_instructions, both)


def test_tools_and_reasoning(write, template):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    tree = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "", "tool_call_id": "1"},
            {"role": "assistant", "content": "b", "reasoning_content": "r"},
        ],
        "tools": None,
    }
    read = read_instructions(write([tree]))
    assert read.messages[0][1]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert read.prompts() == [read.messages[0][:3]] and read.answers() == ["b"]
    assert {"f", "x", "r"} <= set(read.texts())
    ((ids, weights),) = encode_conversation(read.messages[0], template, 999)
    borne = [i for i, weight in zip(ids, weights, strict=True) if weight]
    assert template.tokenizer.decode(borne) == (
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><think>\nr\n</think>\n\nb'
    )
    message = message_of(read_instructions, write([tree | {"tools": [{"name": "f"}]}]))
    assert "line 1: it describes tools, which chat templates are not given" in message


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"text": "a"}, "there is no key 'instruction'.*\n.*keys there are: 'text'"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "there is no key 'instruction'"),
        ({"conversations": "a"}, "the value of 'conversations' is not a list"),
        ({"conversations": [{"from": "Bob", "value": "a"}]}, "turn 1 is from 'Bob'.\n.*human"),
        ({"conversations": [{"from": "human"}]}, "message 1 has a content of type NoneType"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "the last message is not an answer"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "message 1 has a .*not a text",
        ),
        ({"prompt": "a", "completion": ["b"]}, "the value of 'completion' is not a text"),
    ],
)
def test_other_shapes_are_named(write, tree, words):
    for path, place in (
        (write([GOOD, tree]), "line 2"),
        (write(json.dumps([GOOD, tree], indent=1), "file.json"), r"entry 2 \(line 6\)"),
    ):
        message = message_of(read_instructions, path)
        assert re.search(f"{place}: {words}", message), message
        read = read_instructions(path, skip_bad_rows=True)
        assert (read.rows, [bad.row for bad in read.bad_rows]) == ([1], [2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"instruction": "a", "output": "b"}', "line 1, character 37: not JSON: Expecting ','"),
        ('[\n {"a": 1},\n]', "line 3, character 1: not JSON"),
        ('[{"a": 1} {"a": 2}]', "line 1, character 11: not JSON"),
        ('[{"a": 1}]\n\n x', "line 3, character 2: not JSON: Extra data"),
        ("[" * 100_000, "not JSON: a number is too long, or the nesting too deep"),
        ("[" + "1" * 5_000 + "]", "not JSON: a number is too long, or the nesting too deep"),
        (b'\xef\xbb\xbf[\n"\xff"]', "line 2: not UTF-8 text, from byte 6"),
    ],
)
def test_a_damaged_array_is_refused_where_it_is_damaged(write, content, words):
    assert words in message_of(read_instructions, write(content, "file.json"), skip_bad_rows=True)


# Splitting


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=50)
def test_a_split_is_that_of_pairs_with_these_sources(numbers, share, seed):
    numbers = [*numbers, 10, 11]
    read = of(*((f"q{number}", f"a{place}") for place, number in enumerate(numbers)))
    sources = read.first_prompts()
    expected = split_pairs(Pairs(sources, sources, read.rows), share, seed)
    parts = split_conversations(read, share, seed)
    assert [part.rows for part in parts] == [part.rows for part in expected]
    assert not {*parts[0].first_prompts()} & {*parts[1].first_prompts()}


def test_what_begins_alike_stays_together_whatever_follows():
    read = of(("a", "x"), ("a", "y", "more", "z"), ("b", "x"))
    first = {"role": "system", "content": "s"}
    read.messages[1].insert(0, first)
    for seed in range(4):
        _, held_out = split_conversations(read, 0.5, seed)
        assert held_out.rows in ([2, 3], [4])


def test_one_beginning_cannot_be_split():
    message = message_of(split_conversations, of(("a", "x"), ("a", "y")))
    assert "1 distinct first prompt" in message
    assert "from 0 to 1" in message_of(split_by_key, ["a", "b"], 1.5, 0, path="", noun="")


# Batches


def test_weights_by_hand(template):
    a, b, c = template.tokenizer.encode("abc")
    turns = said("a", "bc", "c", "a")
    ids = [USER, a, END, ASSISTANT, b, c, END, USER, c, END, ASSISTANT, a, END]
    weights = [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1]
    assert encode_conversation(turns, template, 13) == [(ids, weights)]
    for length in (5, 6, 11, 12):
        assert encode_conversation(turns, template, length) == [(ids[:length], weights[:length])]
    for length in (0, 1, 3, 4):
        assert encode_conversation(turns, template, length) == [None]


def test_a_template_that_changes_earlier_turns(template):
    """Only the last answer is written; those before are a dot."""
    text = CHAT_TEMPLATE.replace(
        "message.content",
        "('.' if message.role == 'assistant' and not loop.last else message.content)",
    )
    changing = ChatTemplate(text, template.tokenizer)
    a, b, c, dot = template.tokenizer.encode("abc.")
    read = of(("a", "bb", "c", "a"), ("c", "b"), path="file.csv")
    first = ([USER, a, END, ASSISTANT, b, b, END], [0] * 4 + [1] * 3)
    second = (
        [USER, a, END, ASSISTANT, dot, END, USER, c, END, ASSISTANT, a, END],
        [0] * 10 + [1] * 2,
    )
    assert encode_conversation(read.messages[0], changing, 20) == [first, second]
    assert encode_conversation(read.messages[0], changing, 10) == [first, None]
    [(inputs, labels, weights)] = instructions(read, changing, pack=False, shuffle=False)
    rows = [first, second, ([USER, c, END, ASSISTANT, b, END], [0] * 4 + [1] * 2)]
    for place, (ids, weighed) in enumerate(rows):
        count = len(ids) - 1
        assert inputs["token_ids"].numpy()[place, :count].tolist() == ids[:-1]
        assert labels.numpy()[place, :count].tolist() == ids[1:]
        assert weights.numpy()[place].tolist() == weighed[1:] + [0] * (weights.shape[1] - count)
    (summary,) = describe_instructions(read, None, changing, max_length=10)
    assert (summary.rows, summary.lengths, summary.tokens) == (2, [12, 6], 7 + 6)
    assert (summary.truncated, summary.unusable, summary.loss_tokens) == (1, 0, 3 + 2)


def test_a_template_at_fault_blames_no_row(template):
    text = CHAT_TEMPLATE.replace("<|assistant|>{% endif", "<|assistant|> Well,{% endif")
    message = message_of(instructions, of(("a", "b")), ChatTemplate(text, template.tokenizer))
    assert message.startswith("the chat template cannot be used for training")


def test_a_packed_batch_by_hand(template):
    a, b, c = template.tokenizer.encode("abc")
    read = of(("a", "b"), ("c", "cc"), ("abcabcabc", "a"))
    [(inputs, labels, weights)] = instructions(read, template, max_length=12, batch_size=4)
    # The third conversation has room for its prompt only; the longer of the others comes first.
    first = [USER, c, END, ASSISTANT, c, c, END]
    second = [USER, a, END, ASSISTANT, b, END]
    assert inputs["token_ids"].numpy().tolist() == [[*first[:-1], *second[:-1], 0]]
    assert inputs["positions"].numpy().tolist() == [[*range(6), *range(5), 0]]
    assert inputs["segment_ids"].numpy().tolist() == [[*[1] * 6, *[2] * 5, 0]]
    assert labels.numpy().tolist() == [[*first[1:], *second[1:], 0]]
    assert weights.numpy().tolist() == [[0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0]]
    assert [t.dtype for t in (*inputs.values(), labels, weights)] == ["int32"] * 4 + ["float32"]
    [(_, _, weights)] = instructions(read, template, max_length=12, loss_on="all")
    assert weights.numpy().tolist() == [[1] * 11 + [0]]


def test_an_unpacked_batch_by_hand(template):
    a, b, c = template.tokenizer.encode("abc")
    read = of(("a", "b"), ("c", "cc"))
    [(inputs, labels, weights)] = instructions(read, template, pack=False, shuffle=False)
    assert list(inputs) == ["token_ids"]
    assert inputs["token_ids"].numpy().tolist() == [
        [USER, a, END, ASSISTANT, b, 0, 0, 0],
        [USER, c, END, ASSISTANT, c, c, 0, 0],
    ]
    assert labels.numpy().tolist() == [
        [a, END, ASSISTANT, b, END, 0, 0, 0],
        [c, END, ASSISTANT, c, c, END, 0, 0],
    ]
    assert weights.numpy().tolist() == [[0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0]]


def numbered(count):
    """Conversations that tell which they are, of uneven length, some with two turns."""
    lengths = np.random.default_rng(0).integers(1, 30, (count, 2))
    conversations = [[f"{n}" + "q" * q, f"{n}" + "a" * a] for n, (q, a) in enumerate(lengths)]
    return of(*(turns if n % 3 else turns * 2 for n, turns in enumerate(conversations)))


def read_epoch(dataset, tokenizer):
    """The conversations of one iteration and what bears loss in them, row by row."""
    rows = []
    for inputs, labels, weights in dataset:
        ids, labels, weights = inputs["token_ids"].numpy(), labels.numpy(), weights.numpy()
        segments = inputs["segment_ids"].numpy() if "segment_ids" in inputs else None
        segments = segments if segments is not None else np.ones_like(ids)
        assert not weights[segments == 0].any()
        for place in range(len(ids)):
            row = []
            for segment in range(1, segments[place].max() + 1):
                here = segments[place] == segment
                whole = [*ids[place][here][:1], *labels[place][here]]
                borne = labels[place][here][weights[place][here] > 0]
                row.append((tokenizer.decode(whole), tokenizer.decode(borne)))
            rows.append(row)
    return rows


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_conversation_is_seen_once_an_epoch(template, pack, shuffle):
    read = numbered(53)
    options = dict(max_length=128, batch_size=4, pack=pack, shuffle=shuffle)
    dataset = instructions(read, template, **options)
    expected = [
        ("".join(m["content"] for m in messages), "".join(m["content"] for m in messages[1::2]))
        for messages in read.messages
    ]
    epochs = [read_epoch(dataset, template.tokenizer) for _ in range(2)]
    for rows in epochs:
        assert len(dataset) == -(-len(rows) // 4)
        assert sorted(both for row in rows for both in row) == sorted(expected)
    assert (len(epochs[0]) < 30) == pack
    assert sorted(epochs[0]) == sorted(epochs[1]), "packed once"
    assert (epochs[0] == epochs[1]) == (not shuffle)
    again = instructions(read, template, **options)
    assert [read_epoch(again, template.tokenizer) for _ in range(2)] == epochs
    if not pack and not shuffle:
        assert [row[0] for row in epochs[0]] == expected


def test_what_cannot_be_made_a_batch(template):
    read = of(("a" * 50, "b"), path="file.csv")
    assert "file.csv: no answer begins in 20 tokens" in message_of(
        instructions, read, template, max_length=20
    )
    assert "loss_on is 'answer'" in message_of(instructions, read, template, loss_on="answer")
    strict = ChatTemplate("{{ raise_exception('no') }}", template.tokenizer)
    assert message_of(instructions, read, strict).startswith("file.csv, row 2: ")


# Summary


def test_figures(template):
    training = of(
        ("a", "b"),  # 6 tokens
        ("a", "b"),
        ("a", "bbbb"),  # 9
        ("cc", "dddd", "e", "f"),  # 16
        ("gggggggg", "h"),  # 13, of which an answer needs 12
        path="train.csv",
        columns={"instruction": "q", "output": "a"},
        bad_rows=[BadRow(7, "a", "column 'a' is empty", ("x", ""))],
    )
    first, second = describe_instructions(
        training, of(("a", "x"), ("new", "x")), template, max_length=11, batch_size=2
    )
    assert first.lengths == [6, 6, 9, 16, 13]
    assert first.to_dict() == {
        "name": "training",
        "path": "train.csv",
        "columns": {"instruction": "q", "output": "a"},
        "rows": 5,
        "turns": 2,
        "bad_rows": 1,
        "duplicates": 1,
        "overlap": 0,
        "truncated": 1,
        "unusable": 1,
        "tokens": 6 + 6 + 9 + 11,
        "loss_tokens": 2 + 2 + 5 + 5,
        "packed_rows": 3,  # 10 and 8 and 5 + 5 ids to read, of at most 11
        # Unpacked in pairs of like length, (5, 5) and (8, 10), padded to 8 and to 11. Packed two
        # batches of two rows of 11, one of which is empty.
        "efficiency": {"packed": 28 / 44, "unpacked": 28 / 38},
        "max_length": 11,
        "percentiles": [50, 95, 99, 100],
        "row_tokens": [9, 16, 16, 16],
    }
    assert (second.rows, second.overlap, second.duplicates) == (2, 1, 0)
    json.dumps(first.to_dict())
    assert first.lines() == [
        "training    train.csv",
        "  rows      5 ('q', 'a'), up to 2 answers each, 1 bad row left out",
        "  tokens    32, 43.8 % count in the loss; per row: half ≤ 9, 95 % ≤ 16, longest 16",
        "  truncated 1 row (20.0 %)",
        "  unusable  1 row (20.0 %)",
        "  packed    3 rows, 63.6 % full; unpacked 73.7 %",
        "  repeated  1 row (20.0 %)",
    ]
    assert second.lines()[-1] == (
        "  overlap   1 row (50.0 %) with a first prompt that is in training too"
    )


def test_the_summary_agrees_with_the_batches(template):
    read = numbered(97)
    (summary,) = describe_instructions(read, None, template, max_length=30, batch_size=5)
    dataset = instructions(read, template, max_length=30, batch_size=5)
    batches = [(b["segment_ids"].numpy(), w.numpy()) for b, _, w in dataset]
    assert summary.truncated and summary.unusable and summary.packed_rows
    filled = [(segments > 0).any(axis=1).sum() for segments, _ in batches]
    assert summary.packed_rows == sum(filled)
    assert {segments.shape for segments, _ in batches} == {(5, 30)}, "a step is compiled once"
    assert summary.loss_tokens == sum(weights.sum() for _, weights in batches)
    used = sum((segments > 0).sum() for segments, _ in batches)
    assert summary.efficiency["packed"] == used / sum(s.size for s, _ in batches)
    assert summary.tokens == used + summary.rows - summary.unusable


def test_a_summary_of_what_does_not_fit(template):
    (summary,) = describe_instructions(of(("aaaa", "b")), None, template, max_length=3)
    assert (summary.unusable, summary.tokens, summary.packed_rows) == (1, 0, 0)
    assert summary.efficiency == {"packed": 0.0, "unpacked": 0.0}
    assert "  unusable  1 row (100.0 %)" in summary.lines()


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 9), st.booleans())
def test_joined_conversations(count, most, seed, told):
    """Every conversation is there as it was, and once more inside one of up to `most`."""
    read = of(*([f"question {n}", f"answer {n}"] for n in range(count)))
    first = [{"role": "system", "content": "Be."}] if told else []
    read = Conversations(rows=read.rows, messages=[[*first, *m] for m in read.messages])
    more = add_turns(read, most, seed)
    assert more.messages[:count] == read.messages and more.rows[:count] == read.rows
    assert len(more.messages) == len(more.rows)
    joined = more.messages[count:]
    if most == 1:
        assert not joined
        return
    for messages in joined:
        assert [m for m in messages if m["role"] == "system"] == first
        assert messages[: len(first)] == first
    turns = [m for messages in joined for m in messages if m["role"] != "system"]
    texts = [m for messages in read.messages for m in messages if m["role"] != "system"]
    assert sorted(m["content"] for m in turns) == sorted(m["content"] for m in texts)
    sizes = [sum(m["role"] == "assistant" for m in messages) for messages in joined]
    assert max(sizes) <= max(most, 2) and all(size >= 2 for size in sizes[:-1])
    assert add_turns(read, most, seed) == more


def test_fewer_than_one_turn():
    with pytest.raises(InputError, match="turns is 0"):
        add_turns(numbered(3), 0)
