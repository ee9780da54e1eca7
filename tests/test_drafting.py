"""Drafts of tokens that a text repeats: they decide how many steps run, and nothing else. The
oracles are single steps, and predictions by hand; test_reaches.py and test_together.py have files.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_causal

from tfx_transformer.config import TransformerConfig
from tfx_transformer.export.repetition import repeats, time_with_drafts
from tfx_transformer.generation import GenerationOptions, loop
from tfx_transformer.generation.drafting import Drafter, Hits
from tfx_transformer.text.tokenizer import Tokenizer

VOCABULARY, CONTEXT = 7, 41
NARROW = 128  # of a model whose steps of several tokens take longest


class Always(Hits):
    """Drafts after every match."""

    def __init__(self, width):
        super().__init__(width)
        self._worth, self.any_is_worth = 0, True


def step_of(drafter, index, place, run, most):
    """A step as an engine runs it."""
    if drafter.passes(index, place):
        return run([index])
    return drafter.step(index, place, run, most)


class Model:
    """A model whose logits depend on the last tokens in its cache, and a session of it.

    Args:
        seed: of the logits.
        hits: of the drafts; None: nothing is drafted.
        length: most tokens of a step.
    """

    def __init__(self, seed, hits, length):
        self.seed, self.length = seed, length
        self.drafter = None if hits is None else Drafter(hits)
        self.cache = [0] * CONTEXT

    def extend(self, ids, position):
        self.cache[position : position + len(ids)] = ids
        if self.drafter is not None:
            self.drafter.read(ids, position)

    def step(self, ids, position):
        def run(tokens):
            self.cache[position : position + len(tokens)] = tokens
            return np.stack([self.logits(position + n) for n in range(len(tokens))])

        if self.drafter is None:
            return run(ids.tolist())
        room = self.length if position + self.length <= CONTEXT else 1
        return step_of(self.drafter, int(ids[0]), position, run, room)

    def logits(self, place):
        last = [index % 4 for index in self.cache[max(place - 1, 0) : place + 1]]
        known = sum(self.cache[: place + 1]) % 3 == 0  # now and then the whole text matters
        seed = [self.seed, *last, sum(self.cache[: place + 1]) if known else 0]
        return np.random.default_rng(seed).normal(0, 2, VOCABULARY)


OPTIONS = st.sampled_from(
    [
        {},
        {"temperature": 0.7, "seed": 3},
        {"repetition_penalty": 1.2},
        {"temperature": 1.5, "top_k": 3, "seed": 1, "repetition_penalty": 1.1},
    ]
)


@given(
    seed=st.integers(0, 999),
    turns=st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=9), min_size=1, max_size=4),
    options=OPTIONS,
    length=st.integers(2, 6),
    back=st.integers(0, 5),
    kind=st.sampled_from([Always, Hits]),
)
def test_texts_are_those_of_single_steps(seed, turns, options, length, back, kind):
    """As a chat: texts that continue in one cache, or go back in it and write over it."""
    config = TransformerConfig(VOCABULARY, 1, 1, 2, 2, max_sequence_length=CONTEXT)
    options, written = GenerationOptions(max_new_tokens=8, **options), {}
    for name, hits in (("single", None), ("drafted", kind(NARROW))):
        session, written[name], position = Model(seed, hits, length), [], 0
        for ids in turns:
            position = max(position - back, 0)
            limit = loop.new_limit(options, CONTEXT - position - len(ids))
            if limit < 1:
                break
            draws = loop.uniforms(options, limit, 1)
            watch = []

            def take(new, watch=watch):
                watch.append(int(new[0]))

            found = loop.complete(session, ids, position, options, config, draws, on_ids=take)
            written[name].append(found.tolist())
            position += len(ids) + len(watch) - 1
    assert written["drafted"] == written["single"]


def steps_of(hits, texts, length=5):
    """The number of steps that write texts, each (read, written)."""
    count = 0
    for read, written in texts:
        drafter = Drafter(hits)
        drafter.read(read, 0)

        def run(tokens):
            nonlocal count
            count += 1
            return np.zeros((len(tokens), 1))

        for place, index in enumerate(written, len(read)):
            step_of(drafter, index, place, run, length)
    return count


def test_a_copy_takes_a_fifth_of_the_steps():
    text = list(range(100, 160))
    # After 1 and 2 matching tokens nothing is drafted yet. After 3 the share is 0.4, and more than
    # 0.5 when three of them were right. 8 tokens are looked up together; then 52, 5 at a time.
    assert steps_of(hits := Hits(NARROW), [(text, text)]) == 8 + 11
    steps_of(hits, [(text, text)] * 11)  # 0.93 ** 10 < 0.5 < 0.93 ** 9: now one is enough
    assert steps_of(hits, [(text, text)]) == 12


def test_time_with_drafts_by_hand():
    """Steps of one token take 1, of several 1.8 in a narrow model and 1.2 in a wide one."""
    narrow, wide = 128, 384
    text = list(range(100, 160))
    # The 19 steps of the test above, of which 8 read one token.
    assert time_with_drafts([(text, text)], narrow) == pytest.approx((8 + 11 * 1.8) / 60)
    # In a wide model three tokens that match are drafted at once: 2 steps, then 58 tokens by five.
    assert time_with_drafts([(text, text)], wide) == pytest.approx((2 + 12 * 1.2) / 60)
    assert time_with_drafts([([1, 2, 3], [7, 8, 9])], wide) == 1
    assert time_with_drafts([], narrow) == 1


@pytest.mark.parametrize(("room", "expected"), [(15, False), (60, True)])
def test_an_answer_counts_as_far_as_the_model_can_write_it(room, expected):
    tokenizer = Tokenizer.train(["abc"], 300)
    answer = "0123456789" + "xyz" * 30
    assert len(tokenizer.encode(answer)) >= 100, "a token for each letter"
    size = {"vocabulary_size": tokenizer.vocabulary_size, "max_sequence_length": room}
    assert repeats(tiny_causal(**size), tokenizer, [("a", answer)]) == expected


def test_a_text_without_repetition_is_not_drafted():
    steps = []

    def run(tokens):
        steps.append(len(tokens))
        return np.zeros((len(tokens), 1))

    drafter = Drafter(Hits(NARROW))
    for place, index in enumerate(np.random.default_rng(0).permutation(500).tolist()):
        step_of(drafter, index, place, run, 5)
    assert steps == [1] * 500


def test_tokens_are_looked_up_late():
    """While nothing is drafted: eight at a time, the last ones when another text begins."""
    hits, judged = Hits(NARROW), []
    hits.note = lambda length, is_right: judged.append(is_right)
    drafter = Drafter(hits)
    for place in range(13):
        assert drafter.passes(5, place)
        assert judged == [True] * (0 if place < 7 else 6)  # not the first two
    Drafter(hits)
    assert judged == [True] * 11


def test_drafts_that_are_wrong_end():
    """Three tokens repeat all the time, and what follows them never does."""
    drafted, hits = [], Hits(NARROW)
    for _ in range(30):
        hits.note(3, True)

    def run(tokens):
        drafted.append(tokens[0] == 3 and len(tokens) > 1)
        return np.zeros((len(tokens), 1))

    drafter = Drafter(hits)
    text = [index for number in range(60) for index in (1, 2, 3, 10 + number)]
    for place, index in enumerate(text):
        hits.note(1, False)
        hits.note(2, False)
        step_of(drafter, index, place, run, 5)
    assert any(drafted)
    assert not any(drafted[len(drafted) // 2 :])


def test_the_longest_match_at_its_last_place_predicts():
    given = []

    def run(tokens):
        given.append(list(tokens))
        return np.zeros((len(tokens), 1))

    drafter = Drafter(Always(NARROW))
    drafter.read([1, 2, 3, 4, 9, 2, 3, 5, 8, 7, 3, 6, 2], 0)
    drafter.step(3, 13, run, 4)  # after 2, 3: the last time 5 followed
    drafter.step(5, 14, run, 4)  # right: not run again
    drafter.step(8, 15, run, 4)
    drafter.step(1, 16, run, 4)  # 7 was drafted
    assert given == [[3, 5, 8, 7], [1, 2, 3, 4]]


def test_logits_ahead_are_forgotten_when_the_text_changes():
    """Tokens at the same places of another text do not get the logits of the first one."""
    number = 0

    def run(tokens):
        nonlocal number
        number += 1
        return np.full((len(tokens), 1), number)

    drafter = Drafter(Always(NARROW))
    drafter.read([1, 2, 3, 1], 0)
    assert drafter.step(2, 4, run, 3)[0, 0] == 1
    drafter.read([3], 5)  # read by a prefill
    assert drafter.step(1, 6, run, 3)[0, 0] == 2
    assert drafter.step(2, 7, run, 3)[0, 0] == 2, "drafted"
    drafter.read([], 2)
    assert drafter.step(3, 2, run, 1)[0, 0] == 3
    assert drafter.step(2, 8, run, 3)[0, 0] == 4, "after a gap"


@pytest.mark.parametrize(
    ("size", "worth"), [((NARROW,), 0.5), ((383,), 0.5), ((384,), 0.3), ((384, True), 0.5)]
)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_share_of_right_predictions(length, size, worth):
    hits, share = Hits(*size), {1: 0.0, 2: 0.2, 3: 0.4}[length]
    for is_right in (1, 1, 0, *[1] * 12, 0, 0, 0, 0, 0, 1, 1):
        assert hits.is_worth(length) == (share >= worth)
        hits.note(length, bool(is_right))
        share = 0.93 * share + 0.07 * is_right


def test_a_prediction_is_judged_once():
    """A text that goes back keeps its first tokens, whose predictions were judged before."""
    hits = Hits(NARROW)
    hits.note = lambda length, is_right: judged.append((length, is_right))
    judged: list[tuple[int, bool]] = []
    drafter = Drafter(hits)
    drafter.read([1, 2, 1, 2, 1, 3], 0)
    assert judged == [(1, True), (2, True), (3, False)]
    drafter.read([2, 1], 5)  # over the 3
    assert judged[3:] == [(3, True), (3, True)]
