"""Sampling, beam search, the decode loops and streaming, against definitions written out."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from slow import ALL_TESTS
from tiny_models import perturbed, tiny_config, tiny_model

from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop, numpy_ops
from tfx_transformer.generation.beam import BeamSearch
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import SourcePreprocessor
from tfx_transformer.generation.sampling import (
    Sampler,
    draw,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.decoding import KerasEngine, text_generator
from tfx_transformer.text.tokenizer import Tokenizer

END = 2
NAMESPACES = pytest.mark.parametrize("xp", [numpy_ops, ops], ids=["numpy", "keras"])

# Halves, so that equal logits are frequent and sums are exact; or any numbers.
halves = st.integers(-8, 8).map(lambda n: n / 2)
# Without subnormal numbers, which TensorFlow rounds to zero.
numbers = st.floats(-20, 20, width=32, allow_subnormal=False)
few_logits = st.one_of(arrays("float32", (3, 7), elements=e) for e in (halves, numbers))


def softmax(x):
    y = np.exp(np.asarray(x, "float64") - np.max(x, axis=-1, keepdims=True))
    return y / y.sum(-1, keepdims=True)


def log_softmax(x):
    return np.log(softmax(x))


def kept(xp, logits):
    return np.asarray(logits) > -1e8


# The definitions, as in Hugging Face transformers (LogitsProcessor), in float64


def penalized(logits, seen, penalty):
    scaled = np.where(logits < 0, logits * penalty, logits / penalty)
    return np.where(seen, scaled, logits)


def top_k_kept(logits, k):
    return logits >= np.sort(logits, axis=-1)[:, [-k]]


def top_p_kept(logits, p):
    """The smallest set that reaches p, row by row, and what ties with its last token."""
    probabilities = softmax(logits)
    result = np.zeros(logits.shape, bool)
    for row, values in zip(result, probabilities, strict=True):
        total = 0.0
        for index in np.argsort(-values, kind="stable"):
            row[index] = True
            total += values[index]
            if total >= p:
                break
        row |= values >= values[row].min()
    return result


# numpy_ops


@given(few_logits, st.integers(1, 7))
def test_numpy_top_k_is_keras(logits, k):
    values, indices = numpy_ops.top_k(logits, k)
    expected_values, expected_indices = ops.top_k(logits, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


@given(st.integers(0, 10_000), st.sampled_from([4096, 4099, 5000]), st.integers(2, 63))
def test_numpy_top_k_of_wide_rows_is_a_stable_sort(seed, width, k):
    random = np.random.default_rng(seed)
    # Few different values, so that many are equal, or all different.
    logits = random.normal(size=(2, 3, width)).round(seed % 4).astype("float32")
    logits[1, 2] = 5
    expected = np.argsort(-logits, axis=-1, kind="stable")[..., :k]
    values, indices = numpy_ops.top_k(logits, k)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(logits, expected, axis=-1))


@given(few_logits)
def test_numpy_softmax_is_keras(logits):
    for name in ("softmax", "log_softmax"):
        ours, theirs = (getattr(xp, name)(logits, axis=-1) for xp in (numpy_ops, ops))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# Sampling


@NAMESPACES
def test_sampling_by_hand(xp):
    logits = np.array([[2.0, -2.0, 0.5, 1.0]], "float32")
    seen = np.array([[True, True, False, False]])
    assert np.allclose(penalize_repetition(xp, logits, seen, 2.0), [[1, -4, 0.5, 1]])
    assert kept(xp, keep_top_k(xp, logits, 2)).tolist() == [[True, False, False, True]]
    # Probabilities 0.5, 0.3, 0.15, 0.05: three are needed for 0.9, two for 0.75, one for 0.4.
    logits = np.log([[0.15, 0.5, 0.05, 0.3]]).astype("float32")
    for p, expected in [(0.9, 3), (0.75, 2), (0.4, 1), (1e-9, 1), (0.99, 4)]:
        nucleus = np.asarray([0.5, 0.3, 0.15, 0.05][:expected])
        probabilities = softmax(keep_top_p(xp, logits, p))
        assert np.sort(probabilities[probabilities > 0])[::-1] == pytest.approx(
            nucleus / nucleus.sum(), rel=1e-5
        )


@NAMESPACES
def test_draw_by_hand(xp):
    # Cumulative 0.5, 0.75, 0.75, 1: the third token is impossible.
    logits = np.log(np.maximum([0.5, 0.25, 0.0, 0.25], 1e-30)).astype("float32")
    uniform = np.array([0, 0.49, 0.51, 0.74, 0.76, 1 - 2**-24], "float32")
    drawn = draw(xp, np.tile(logits, (6, 1)), uniform)
    assert np.asarray(drawn).tolist() == [0, 0, 1, 1, 3, 3]
    first_is_impossible = np.array([[-1e9, 0.0, 0.0]], "float32")
    assert np.asarray(draw(xp, first_is_impossible, np.zeros(1, "float32"))).tolist() == [1]


def test_draws_have_the_distribution():
    logits = np.random.default_rng(0).normal(size=7).astype("float32")
    uniform = ((np.arange(10_000) + 0.5) / 10_000).astype("float32")
    drawn = draw(numpy_ops, np.tile(logits, (10_000, 1)), uniform)
    frequencies = np.bincount(drawn, minlength=7) / 10_000
    np.testing.assert_allclose(frequencies, softmax(logits), atol=2e-4)


@given(few_logits, st.integers(1, 7), st.floats(0.01, 0.99), st.floats(0.5, 2))
def test_sampling_is_the_definition_in_both_namespaces(logits, k, p, penalty):
    seen = np.arange(21).reshape(3, 7) % 2 == 0
    # A sum that meets p to the last digits may fall on either side of it.
    sums = np.cumsum(np.sort(softmax(logits), axis=-1)[:, ::-1], axis=-1)
    assume(np.abs(sums - p).min() > 1e-5)
    near = np.diff(np.sort(softmax(logits), axis=-1), axis=-1)
    assume(not ((near > 0) & (near < 1e-7)).any())
    for xp in (numpy_ops, ops):
        np.testing.assert_allclose(
            penalize_repetition(xp, logits, seen, penalty), penalized(logits, seen, penalty), 1e-5
        )
        np.testing.assert_array_equal(kept(xp, keep_top_k(xp, logits, k)), top_k_kept(logits, k))
        np.testing.assert_array_equal(kept(xp, keep_top_p(xp, logits, p)), top_p_kept(logits, p))


@NAMESPACES
def test_equal_logits_are_all_drawn(xp):
    nucleus = keep_top_p(xp, np.zeros((1, 5), "float32"), 0.5)
    assert kept(xp, nucleus).all(), "none of them comes before another"
    tied = np.log([[0.4, 0.2, 0.2, 0.2]]).astype("float32")
    assert kept(xp, keep_top_p(xp, tied, 0.5)).all()
    assert kept(xp, keep_top_p(xp, tied, 0.3)).tolist() == [[True, False, False, False]]


@NAMESPACES
def test_sampler_puts_the_pieces_in_order(xp):
    """Penalty, temperature, top k, top p, draw; what has ended is padded."""
    options = GenerationOptions(temperature=0.7, top_k=9, top_p=0.8, repetition_penalty=1.5)
    random = np.random.default_rng(0)
    config, limit, batch = tiny_config(), 11, 13
    sampler = Sampler(xp, options, limit, config)
    first_ids = np.arange(3, 3 + batch, dtype="int32")
    state = sampler.start(first_ids)
    np.testing.assert_array_equal(state["ids"], first_ids)
    expected = np.zeros((batch, limit), "int32")
    seen, finished = np.zeros((batch, 23), bool), np.zeros(batch, bool)
    for index in range(limit):
        logits = random.normal(size=(batch, 23)).astype("float32")
        uniform = random.random(batch, dtype="float32")
        state = sampler.advance(state, index, logits, uniform)

        logits = penalized(logits, seen, 1.5) / 0.7
        logits = np.where(top_k_kept(logits, 9), logits, -np.inf)
        logits = np.where(top_p_kept(logits, 0.8), logits, -np.inf)
        passed = np.cumsum(softmax(logits), axis=-1) <= uniform[:, None]
        ids = np.where(finished, 0, passed.sum(-1))
        expected[:, index] = ids
        seen[np.arange(batch), ids] = True
        finished |= ids == END
        np.testing.assert_array_equal(state["ids"], ids)
        np.testing.assert_array_equal(state["finished"], finished)
    assert 0 < finished.sum() < batch, "some end, some do not"
    np.testing.assert_array_equal(sampler.result(state), expected)


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"beams": 0},
        {"beams": 65},
        {"length_penalty": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"repetition_penalty": 0},
        {"seed": -1},
        {"max_new_tokens": 2.5},
        {"temperature": "0.7"},
        {"top_k": "5"},
        {"top_p": None},
        {"beams": True},
        {"stop": ""},
        {"stop": ["a", ""]},
        {"stop": ["a", 3]},
        {"stop": 3},
    ],
)
def test_options_out_of_range_are_named(options):
    [name] = options
    with pytest.raises(InputError, match=rf"^{name} is .*\n  Expected "):
        GenerationOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0},
        {"repetition_penalty": 1.1},
        {"top_k": 3},
        {"top_p": 0.5},
        {"stop": "a"},
    ],
)
def test_options_that_beams_would_ignore_are_refused(options):
    with pytest.raises(InputError, match=f"beams and {next(iter(options))}"):
        GenerationOptions(beams=2, **options)


def test_other_options_that_would_do_nothing_are_refused():
    with pytest.raises(InputError, match=r"length_penalty is 0.5 without beams"):
        GenerationOptions(length_penalty=0.5)
    for options in ({"top_k": 3}, {"top_p": 0.5}):
        with pytest.raises(InputError, match=f"{next(iter(options))} and temperature 0 exclude"):
            GenerationOptions(temperature=0, **options)


def test_what_limits_the_draw_draws():
    assert GenerationOptions() == GenerationOptions(temperature=0)
    assert GenerationOptions(top_k=3) == GenerationOptions(top_k=3, temperature=1)
    assert GenerationOptions(top_p=0.9) == GenerationOptions(top_p=0.9, temperature=1)
    assert GenerationOptions(top_k=3, temperature=0.5).temperature == 0.5
    replaced = dataclasses.replace(GenerationOptions(top_k=3, seed=5), seed=0)
    assert replaced == GenerationOptions(top_k=3)


def test_a_stop_text_may_stand_alone():
    expected = GenerationOptions(stop=("a b",))
    assert GenerationOptions(stop="a b") == GenerationOptions(stop=["a b"]) == expected
    assert GenerationOptions(stop=[]) == GenerationOptions()


# Beam search


def table_step(seed, vocabulary_size):
    """A step whose logits are a function of (text, prefix) alone; the cache holds the prefixes."""

    def logits_after(text, prefix):
        logits = 2 * np.random.default_rng([seed, text, *prefix]).normal(size=vocabulary_size)
        logits[END] += 1.5  # texts of all lengths compete
        return logits

    def step(ids, position, cache):
        cache = [(text, (*prefix, int(i))) for (text, prefix), i in zip(cache, ids, strict=True)]
        return np.stack([logits_after(*row) for row in cache]).astype("float32"), cache

    return step, logits_after


def search(seed, texts, vocabulary_size, options):
    config = tiny_config(vocabulary_size=vocabulary_size)
    step, _ = table_step(seed, vocabulary_size)
    cache = [(text, ()) for text in texts for _ in range(options.beams)]
    draws = loop.uniforms(options, options.max_new_tokens, len(texts))

    def reorder(cache, rows):
        return [cache[row] for row in rows]

    first_ids = np.full(len(cache), config.start_id, "int32")
    return loop.decode(step, cache, first_ids, options, config, draws, reorder).tolist()


def padded(ids, limit):
    return [*ids, *[0] * (limit - len(ids))]


def every_text(logits_after, vocabulary_size, limit):
    """(log p, ids) of every text that ends within the limit."""
    others = [i for i in range(vocabulary_size) if i != END]
    for length in range(limit):
        for prefix in itertools.product(others, repeat=length):
            ids = (*prefix, END)
            yield (
                sum(log_softmax(logits_after((1, *ids[:n])))[i] for n, i in enumerate(ids)),
                ids,
            )


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_wide_beams_find_the_best_of_all_texts(seed, length_penalty):
    # 4 tokens, 3 of which go on: after 3 steps 27 live texts with 108 extensions, all in 2 * 54.
    options = GenerationOptions(max_new_tokens=4, beams=54, length_penalty=length_penalty)
    _, logits_after = table_step(seed, 4)
    _, best = max(
        (log_p / len(ids) ** length_penalty, ids)
        for log_p, ids in every_text(lambda prefix: logits_after(0, prefix), 4, 4)
    )
    assert search(seed, [0], 4, options) == [padded(best, 4)]


def beam_search(logits_after, options):
    """The algorithm of BeamSearch's docstring over lists, in float64."""
    live, done = [(0.0, ())], []
    beams, limit, penalty = options.beams, options.max_new_tokens, options.length_penalty
    for length in range(1, limit + 1):
        steps = [log_softmax(logits_after((1, *ids))) for _, ids in live]
        extensions = [
            (score + log_p, (*ids, i))
            for (score, ids), step in zip(live, steps, strict=True)
            for i, log_p in enumerate(step)
        ]
        extensions = sorted(extensions, reverse=True)[: 2 * beams]
        done += [(score / length**penalty, ids) for score, ids in extensions if ids[-1] == END]
        done = sorted(done, reverse=True)[:beams]
        live = [extension for extension in extensions if extension[1][-1] != END][:beams]
        if len(done) == beams and live[0][0] / limit**penalty <= done[-1][0]:
            break
    return padded((done or live)[0][1], limit)


@given(
    st.integers(0, 10_000),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.6, 1.0, 3.0]),
    st.integers(1, 9),
)
@settings(max_examples=60)
def test_beam_search_is_the_algorithm_over_lists(seed, beams, length_penalty, limit):
    options = GenerationOptions(max_new_tokens=limit, beams=beams, length_penalty=length_penalty)
    _, logits_after = table_step(seed, 7)
    expected = [
        beam_search(lambda prefix, text=text: logits_after(text, prefix), options)
        for text in range(3)
    ]
    assert search(seed, [0, 1, 2], 7, options) == expected, "in a batch"
    assert [search(seed, [text], 7, options)[0] for text in range(3)] == expected, "alone"


@pytest.mark.parametrize("beams", [2, 5])
def test_beam_search_is_alike_in_both_namespaces(beams):
    random, config, limit = np.random.default_rng(0), tiny_config(), 7
    searches = [
        BeamSearch(xp, GenerationOptions(beams=beams), limit, config) for xp in (numpy_ops, ops)
    ]
    states = [search.start(np.ones(3 * beams, "int32")) for search in searches]
    for index in range(limit):
        logits = 3 * random.normal(size=(3 * beams, 23)).astype("float32")
        pairs = zip(searches, states, strict=True)
        states = [search.advance(state, index, logits) for search, state in pairs]
        assert set(states[0]) == set(states[1])
        for name, array in states[0].items():
            np.testing.assert_allclose(array, states[1][name], rtol=1e-5, err_msg=name)
    first, second = (s.result(state) for s, state in zip(searches, states, strict=True))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == second.dtype == "int32"


# A Keras model behind it

SOURCES = [[5, 9, 4, 13, 22, 7, 2], [8, 2], [17, 3, 3, 11, 2], [20, 6, 15, 2], [2]]


@pytest.fixture(scope="module")
def model():
    """Writes different texts for different sources, one of which ends early."""
    return tiny_model(0.3, seed=8, num_layers=1, tie_embeddings=False)


@pytest.fixture(scope="module")
def engine(model):
    return KerasEngine(model)


def full_logits(model, source, prefixes):
    """Logits after every token of the prefixes, by one forward pass without a cache."""
    inputs = {
        "encoder_token_ids": np.array([source] * len(prefixes), "int32"),
        "decoder_token_ids": np.array(prefixes, "int32"),
    }
    return np.asarray(model(inputs))


def test_greedy_is_argmax_over_a_full_pass(engine, model):
    written = engine.generate_ids(SOURCES, GenerationOptions(max_new_tokens=9))
    assert written.shape == (5, 9) and written.dtype == "int32"
    assert len({tuple(row) for row in written.tolist()}) > 2
    assert any(END in row for row in written) and any(END not in row for row in written)
    for source, row in zip(SOURCES, written.tolist(), strict=True):
        # What was written is read again: each token must be the argmax after those before it.
        best = full_logits(model, source, [[1, *row[:-1]]])[0].argmax(-1).tolist()
        end = best.index(END) + 1 if END in best else 9
        assert row == padded(best[:end], 9)


def test_wide_beams_of_a_model_find_the_best_of_all_texts():
    # 5 tokens, 3 steps: 16 live texts, whose 80 extensions 2 * 40 hold.
    model = tiny_model(0.3, seed=3, vocabulary_size=5, num_layers=1, tie_embeddings=False)
    prefixes = [(1, *ids) for ids in itertools.product((0, 1, 3, 4), repeat=2)]
    engine, sources = KerasEngine(model), [[3, 4, 3, 2], [4, 2]]
    tables = [full_logits(model, source, prefixes) for source in sources]

    def logits_after(table, prefix):
        row = next(i for i, longer in enumerate(prefixes) if longer[: len(prefix)] == prefix)
        return table[row, len(prefix) - 1]

    for length_penalty in (0.0, 2.0) if ALL_TESTS else (2.0,):  # each is traced
        options = GenerationOptions(max_new_tokens=3, beams=40, length_penalty=length_penalty)
        written = engine.generate_ids(sources, options)
        for table, row in zip(tables, written.tolist(), strict=True):
            texts = every_text(lambda prefix, t=table: logits_after(t, prefix), 5, 3)
            _, best = max((log_p / len(ids) ** length_penalty, ids) for log_p, ids in texts)
            assert row == padded(best, 3)


@pytest.mark.slow(but=["beams", "sampling"])  # which penalizes repetitions too
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beams": 3, "length_penalty": 0.6},
        {"repetition_penalty": 1.5},
        {"temperature": 0.9, "top_k": 9, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 5},
    ],
    ids=["greedy", "beams", "penalty", "sampling"],
)
def test_compiled_loop_steps_and_single_texts_agree(engine, options):
    options = GenerationOptions(max_new_tokens=9, **options)
    written = engine.generate_ids(SOURCES, options)
    steps = []
    by_steps = engine.generate_ids(SOURCES, options, on_ids=steps.append)
    np.testing.assert_array_equal(written, by_steps)
    for row in written.tolist():
        after_end = row[row.index(END) + 1 :] if END in row else []
        assert not any(after_end), "padding follows the end"
    if options.beams == 1:
        np.testing.assert_array_equal(np.stack(steps, axis=1), written[:, : len(steps)])
    if not options.temperature:
        for source, row in zip(SOURCES, written, strict=True):
            np.testing.assert_array_equal(engine.generate_ids([source], options)[0], row)


def test_seeds(engine):
    def write(seed):
        options = GenerationOptions(max_new_tokens=9, temperature=1.0, seed=seed)
        return engine.generate_ids(SOURCES, options).tolist()

    assert write(1) == write(1)
    assert write(1) != write(2)
    # In a sample of this size some texts end, and some do not.
    rows = [row for seed in range(4) for row in write(seed)]
    assert 0 < sum(END in row for row in rows) < len(rows)


@pytest.mark.slow  # what is kept to draw from is tested above, for NumPy and Keras
def test_only_one_to_draw_from_is_greedy(engine):
    greedy = engine.generate_ids(SOURCES, GenerationOptions(max_new_tokens=9))
    for options in ({"top_k": 1}, {"top_p": 1e-9}):
        drawn = engine.generate_ids(
            SOURCES, GenerationOptions(max_new_tokens=9, temperature=1.0, **options)
        )
        np.testing.assert_array_equal(drawn, greedy)


def test_limits(engine, model):
    longest = model.config.max_sequence_length
    greedy = GenerationOptions()
    endless = next(s for s in SOURCES if END not in engine.generate_ids([s], greedy))
    for asked, given_ in [(1, 1), (4, 4), (None, longest), (10_000, longest)]:
        written = engine.generate_ids([endless], GenerationOptions(max_new_tokens=asked))
        assert written.shape == (1, given_)
        assert END not in written


def test_one_trace_serves_all_calls(model):
    engine = KerasEngine(model)
    for count, seed in [(5, 0), (1, 1), (3, 2)]:
        options = GenerationOptions(max_new_tokens=4, temperature=1.0, seed=seed)
        engine.generate_ids(SOURCES[:count], options)
    [compiled] = engine._loops.values()
    assert compiled.experimental_get_tracing_count() == 1

    greedy = GenerationOptions(max_new_tokens=4)
    traces = []
    for count in (1, 1, 2, 3, 5):
        engine.generate_ids(SOURCES[:count], greedy, on_ids=lambda ids: None)
        traces.append(engine._step.experimental_get_tracing_count())
    assert traces[0] == traces[1] == 1, "one for all positions"
    assert traces[-1] <= 2, "and one for all shapes"
    [begin] = engine._begin.values()
    assert begin.experimental_get_tracing_count() == 1


def test_new_weights_are_used(model):
    config = tiny_config(num_layers=1)
    one, other = (perturbed(type(model)(config), 0.5, seed) for seed in (1, 2))
    engine, options = KerasEngine(one), GenerationOptions(max_new_tokens=3)
    before = engine.generate_ids(SOURCES, options)
    one.set_weights(other.get_weights())
    after = engine.generate_ids(SOURCES, options)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, KerasEngine(other).generate_ids(SOURCES, options))


# Texts


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat", "猫が好きです", "🙂"] * 9, 270)


class Echo:
    """An engine that writes what it reads, or what it is told to; remembers its batches."""

    def __init__(self, rows=None):
        self.rows, self.batches = rows, []

    def generate_ids(self, source_ids, options, on_ids=None):
        self.batches.append(source_ids)
        rows = self.rows or source_ids
        longest = max(map(len, rows))
        table = np.array([padded(row, longest) for row in rows], "int32").reshape(len(rows), -1)
        if on_ids is not None:
            for column in table.T:
                on_ids(column)
        return table


def test_texts_come_back_in_order(tokenizer):
    texts = ["a cat", "", "猫が好きです、猫が好きです", "x", "the cat sat on the 猫 🙂", "yy"]
    engine = Echo()
    generator = TextGenerator(engine, SourcePreprocessor(tokenizer), 100, batch_size=2)
    assert generator.generate(texts) == texts
    assert generator.generate("x") == "x"
    assert generator.generate([]) == []
    lengths = [len(ids) for batch in engine.batches[:3] for ids in batch]
    assert lengths == sorted(lengths) and [len(batch) for batch in engine.batches[:3]] == [2] * 3
    assert all(ids[-1] == END for batch in engine.batches for ids in batch)


def test_what_is_too_long_is_refused_or_cut(tokenizer):
    generator = TextGenerator(Echo(), SourcePreprocessor(tokenizer), 5)
    assert generator.generate("zzzz") == "zzzz"
    with pytest.raises(InputError, match="'zzzzz'.* 6 tokens; the model reads 5"):
        generator.generate(["a", "zzzzz"])
    assert generator.generate("zzzzz", truncate=True) == "zzzz"


def test_streaming_is_of_one_text_without_beams(tokenizer):
    generator = TextGenerator(Echo(), SourcePreprocessor(tokenizer), 100)
    for texts, options in [(["a", "b"], {}), ("a", {"beams": 2})]:
        with pytest.raises(InputError, match="streaming needs one text"):
            generator.generate(texts, stream=print, **options)


@given(st.data())
def test_pieces_make_the_text(tokenizer, data):
    """Whatever the ids, also where they end or break off inside a character."""
    ids = st.integers(0, tokenizer.vocabulary_size - 1)
    text = st.text(st.sampled_from("猫🙂é a")).map(tokenizer.encode)
    row = data.draw(st.lists(st.one_of(text, st.lists(ids, max_size=2)), min_size=1))
    row = list(itertools.chain(*row)) or [END]
    generator = TextGenerator(Echo([row]), SourcePreprocessor(tokenizer), 100)
    pieces = []
    whole = generator.generate("", stream=pieces.append)
    until_end = row[: row.index(END)] if END in row else row
    assert whole == tokenizer.decode(until_end)
    # The engine goes on after the end only to pad.
    if END not in row:
        assert "".join(pieces) == whole
        assert all(pieces)


def test_characters_are_streamed_whole(tokenizer):
    row = [tokenizer.ranks[bytes([byte])] for byte in "é猫🙂".encode()]
    pieces = []
    TextGenerator(Echo([row]), SourcePreprocessor(tokenizer), 100).generate(
        "", stream=pieces.append
    )
    assert pieces == ["é", "猫", "🙂"]


def test_a_model_streams_what_it_writes(tokenizer):
    model = tiny_model(
        0.3, vocabulary_size=tokenizer.vocabulary_size, num_layers=1, tie_embeddings=False
    )
    generator = text_generator(model, tokenizer)
    for options in ({}, {"temperature": 1.0, "seed": 3}):
        pieces = []
        text = generator.generate("the cat", stream=pieces.append, **options)
        assert "".join(pieces) == text == generator.generate("the cat", **options)
        assert len(pieces) > 1
