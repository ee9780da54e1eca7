"""Prompts, stop texts, and conversations that keep their cache."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_causal

from tfx_transformer.errors import InputError
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.generation.chat import Chat
from tfx_transformer.generation.preprocessors import (
    ChatPreprocessor,
    ContinuationPreprocessor,
    SourcePreprocessor,
    new_preprocessor,
)
from tfx_transformer.generation.text import TextGenerator, Writer
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer

END, USER, ASSISTANT = 2, 4, 5


@pytest.fixture(scope="module")
def tokenizer():
    made = Tokenizer.train(["the cat sat", "猫が好きです", "🙂"] * 9, 280, ROLE_TOKENS)
    made.chat_template = CHAT_TEMPLATE
    return made


@pytest.fixture(scope="module")
def generator(tokenizer):
    model = tiny_causal(
        0.35,
        seed=3,
        position="rotary",
        tie_embeddings=False,
        vocabulary_size=tokenizer.vocabulary_size,
        max_sequence_length=61,
    )
    return text_generator(model, tokenizer)


# Prompts


def test_each_task_has_its_prompt(tokenizer):
    plain = Tokenizer.from_json(tokenizer.to_json())
    ids = plain.encode("the cat")
    assert new_preprocessor("seq2seq", plain).encode("the cat") == [*ids, END]
    assert new_preprocessor("causal", plain).encode("the cat") == ids
    assert new_preprocessor("causal", plain).encode("") == [END], "as documents begin"
    assert new_preprocessor("causal", tokenizer).encode("the cat") == [USER, *ids, END, ASSISTANT]


def test_what_is_kept_of_a_long_text(tokenizer):
    text = "the cat sat on the cat"
    ids = tokenizer.encode(text)
    assert SourcePreprocessor(tokenizer).encode(text, 3) == [*ids[:3], END]
    assert ContinuationPreprocessor(tokenizer).encode(text, 3) == ids[-3:]
    chat = new_preprocessor("causal", tokenizer)
    assert chat.encode(text, 3) == [USER, *ids[:3], END, ASSISTANT]
    talk = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": text},
    ]
    assert chat.encode(talk, 3)[-5:] == [*ids[:3], END, ASSISTANT]
    assert chat.encode(talk)[:3] == [USER, *tokenizer.encode("a"), END]


@given(st.text(max_size=60), st.integers(6, 19))
def test_a_cut_prompt_fits(tokenizer, text, longest):
    generator = TextGenerator(
        None, ChatPreprocessor(new_preprocessor("causal", tokenizer).template), longest
    )
    ids = generator.encode(text, truncate=True)
    assert len(ids) <= longest
    assert ids[0] == USER and ids[-2:] == [END, ASSISTANT]
    assert sum(i in (END, USER, ASSISTANT) for i in ids) == 3


# Stop texts


def written_by(tokenizer, ids, stop):
    """What a `Writer` shows and returns; it takes ids until it has had enough."""
    pieces = []
    writer = Writer(tokenizer, stop, pieces.append)
    for i in ids:
        if writer(np.array([i], "int32")):
            break
    return pieces, writer.finish()


@given(st.data())
def test_nothing_of_a_stop_text_is_shown(tokenizer, data):
    letters = st.text("ab猫 ", max_size=12)
    text = data.draw(letters)
    stop = data.draw(st.lists(st.text("ab猫 ", min_size=1, max_size=3), max_size=3).map(tuple))
    pieces, whole = written_by(tokenizer, tokenizer.encode(text), stop)
    assert "".join(pieces) == whole and all(pieces)
    assert text.startswith(whole) and not any(s in whole for s in stop)
    followed = any(text.startswith(s, len(whole)) for s in stop)
    assert followed if any(s in text for s in stop) else whole == text


def test_a_stop_text_ends_the_answer(generator, tokenizer):
    whole = generator.generate("the cat", max_new_tokens=12)
    assert len(whole) > 4
    stop = whole[2:4]
    expected = whole[: whole.index(stop)]
    pieces = []
    assert generator.generate("the cat", max_new_tokens=12, stop=(stop,)) == expected
    streamed = generator.generate("the cat", max_new_tokens=12, stop=(stop,), stream=pieces.append)
    assert "".join(pieces) == streamed == expected
    for one_or_several in (stop, [stop, "no such text"]):
        several = generator.generate(["the cat", "猫"], max_new_tokens=12, stop=one_or_several)
        assert several[0] == expected


# Conversations


class Recording:
    """A session that notes which tokens stand where."""

    def __init__(self, session):
        self.session, self.slots = session, {}

    def extend(self, ids, position):
        self.slots |= dict(zip(itertools.count(position), ids, strict=False))
        self.session.extend(ids, position)

    def step(self, ids, position):
        self.slots[position] = int(ids[0])
        return self.session.step(ids, position)


def naive_answer(generator, prompt, limit):
    row = generator.engine.generate_ids([prompt], GenerationOptions(max_new_tokens=limit))[0]
    return generator.decode(row), [i for i in row.tolist() if i]


def test_each_turn_is_what_the_whole_conversation_would_give(generator, tokenizer):
    chat = Chat(generator, system="猫")
    recording = chat._session = Recording(chat._session)
    ids = tokenizer.encode
    prompt = [3, *ids("猫"), END, USER, *ids("the cat"), END, ASSISTANT]
    answers = []
    for text, following in [("the cat", "sat"), ("sat", "🙂"), ("🙂", None)]:
        expected, written = naive_answer(generator, prompt, 6)
        pieces = []
        assert chat.say(text, stream=pieces.append, max_new_tokens=6) == expected
        assert "".join(pieces) == expected
        answers.append(expected)
        if written[-1] != END:
            written.append(END)
        if following:
            prompt += [*written, USER, *ids(following), END, ASSISTANT]
    slots = [recording.slots[i] for i in range(len(prompt))]
    assert slots == prompt, "nothing was read twice, nothing left out"
    assert len(set(answers)) > 1
    roles = [message["role"] for message in chat.messages]
    assert roles == ["system"] + ["user", "assistant"] * 3


def test_a_template_that_changes_earlier_turns_is_read_again(generator, tokenizer):
    """Answers of earlier turns lose their first character, as reasoning is left out."""
    text = CHAT_TEMPLATE.replace(
        "message.content",
        "(message.content[1:] if message.role == 'assistant' and not loop.last"
        " else message.content)",
    )
    changing = ChatPreprocessor(ChatTemplate(text, tokenizer))
    chat = Chat(TextGenerator(generator.engine, changing, 60), system="猫")
    recording = chat._session = Recording(chat._session)
    answers, kept = [], []
    for message in ("the cat", "sat", "猫", "the"):
        asked = [*chat.messages, {"role": "user", "content": message}]
        prompt = changing.template.prompt(asked)
        expected, _ = naive_answer(generator, prompt, 5)
        before = dict(recording.slots)
        recording.slots = {}
        assert chat.say(message, max_new_tokens=5) == expected
        read = sorted(recording.slots)
        recording.slots = before | recording.slots
        assert [recording.slots[i] for i in range(len(prompt))] == prompt
        # The cache is kept up to the first token that differs, and no further.
        kept.append(read[0])
        assert all(before[i] == prompt[i] for i in range(read[0]))
        if before:
            assert read[0] == len(prompt) - 1 or before.get(read[0]) != prompt[read[0]]
        answers.append(expected)
    assert kept[0] == 0 and kept[1] > 5 and sorted(kept) == kept
    assert any(len(answer) > 1 for answer in answers)


def test_an_interrupted_answer_leaves_a_conversation_that_goes_on(generator, tokenizer):
    text = CHAT_TEMPLATE.replace("message.content", "message.content[loop.revindex0:]")
    changing = ChatPreprocessor(ChatTemplate(text, tokenizer))
    chat = Chat(TextGenerator(generator.engine, changing, 60))
    chat.say("the cat", max_new_tokens=5)
    asked = [*chat.messages, {"role": "user", "content": "sat on"}]

    def interrupt(piece):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.say("a long other message", stream=interrupt, max_new_tokens=5)
    expected, _ = naive_answer(generator, changing.template.prompt(asked), 5)
    assert chat.say("sat on", max_new_tokens=5) == expected


def test_a_full_conversation_says_so_and_stays(generator):
    chat = Chat(generator)
    chat.say("the cat", max_new_tokens=5)
    before = (list(chat.messages), list(chat._cached))
    with pytest.raises(InputError, match="the conversation is full.*context is 61"):
        chat.say("猫 🙂 " * 30)
    assert (chat.messages, chat._cached) == before
    assert isinstance(chat.say("sat", max_new_tokens=3), str)


def test_a_conversation_goes_on_without_its_oldest_turns(generator, tokenizer):
    chat = Chat(generator, system="猫", forget=True)
    recording = chat._session = Recording(chat._session)
    ids = tokenizer.encode
    said, turns, forgotten = [], [], []  # texts, ids that the model has read, turns left out
    for text in ["the cat", "sat on", "🙂", "the", "cat sat", "mat", "猫 the", "on"]:
        first = forgotten[-1] if forgotten else 0
        while True:
            asked = [USER, *ids(text), END, ASSISTANT]
            prompt = [3, *ids("猫"), END, *sum(turns[first:], []), *asked]
            if len(prompt) + 15 <= 61:
                break
            first += 1
            # What is left is read again, from the texts.
            turns = [[USER, *ids(q), END, ASSISTANT, *ids(a), END] for q, a in said]
        expected, written = naive_answer(generator, prompt, 5)
        assert chat.say(text, max_new_tokens=5) == expected
        assert chat.forgotten == first
        assert [recording.slots[i] for i in range(len(prompt))] == prompt
        forgotten.append(first)
        said.append((text, expected))
        turns.append([*asked, *written, *([] if written[-1] == END else [END])])
    contents = [message["content"] for message in chat.messages]
    assert contents == ["猫", *(content for turn in said for content in turn)]
    assert forgotten[0] == 0 and len(set(forgotten)) > 2
    with pytest.raises(InputError, match="is full(.|\n)*Shorten the message"):
        chat.say("猫 🙂 " * 30)
    assert (len(chat.messages), chat.forgotten) == (len(contents), forgotten[-1])


def test_chat_needs_a_template(tokenizer, generator):
    plain = TextGenerator(generator.engine, ContinuationPreprocessor(tokenizer), 60)
    with pytest.raises(InputError, match="no chat template"):
        Chat(plain)
    with pytest.raises(InputError, match="without beams"):
        Chat(generator).say("a", beams=2)
