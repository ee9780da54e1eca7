"""Several texts that an encoder-decoder answers at a time. The oracle is Keras, and each text by
itself."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import VARIANTS, tiny_config, tiny_model

from tfx_transformer.export import compact, signatures
from tfx_transformer.export.to_litert import Conversion, convert
from tfx_transformer.export.verify_generator import SEQ2SEQ, _deviation
from tfx_transformer.generation import GenerationOptions, drafting, loop
from tfx_transformer.generation.drafting import Hits
from tfx_transformer.models.decoding import KerasEngine
from tfx_transformer.runtime import seq2seq
from tfx_transformer.runtime.model_file import read_signatures
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine, Seq2SeqRows
from tfx_transformer.runtime.signature import Signature

LONGEST, SLOTS, TEXTS, BEAMS = 19, 7, 5, 3
FIRST = 6  # slots that steps for short texts read
# Sources that fit into the caches of several texts and longer ones, more than there are rows.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 10, 19, 3, 6, 2, 1, 1)
SOURCES = [np.random.default_rng(n).integers(3, 23, n).tolist() for n in LENGTHS]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A TFLite file whose caches of several texts are shorter than the model's maximum."""
    file = tmp_path_factory.mktemp("together") / "model.tflite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "TOGETHER_SLOTS", SLOTS)
        patch.setattr(signatures, "TOGETHER_LENGTHS", (3,))
        patch.setattr(signatures, "ENCODER_LENGTHS", (3, 5))
        patch.setattr(signatures, "FIRST_SLOTS", (FIRST,))
        convert(model(), file, beams=BEAMS, rows=TEXTS)
    return file


def model():
    # With relative positions a distance counts slots, and each beam of a text has slots of its own.
    settings = VARIANTS["llama"] | {"position": "relative"}
    return tiny_model(0.4, seed=1, **settings, max_sequence_length=LONGEST)


@pytest.fixture(scope="module")
def by_keras():
    return KerasEngine(model())


@pytest.fixture
def engine(file, by_keras):
    engine = Seq2SeqEngine(file, by_keras.config)
    engine.fewest = 3
    return engine


@pytest.fixture
def invoked(monkeypatch):
    """The names of the signatures that run."""
    seen, invoke = [], Signature.invoke
    monkeypatch.setattr(
        Signature, "invoke", lambda self, *buffers: (seen.append(self.name), invoke(self, *buffers))
    )
    return seen


@pytest.mark.slow(but=["options0", "options2"])  # draws: test_causal.py
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.3, "seed": 5, "repetition_penalty": 1.3},
        {"beams": BEAMS, "length_penalty": 0.5},
    ],
)
def test_texts_are_answered_as_by_keras(engine, by_keras, invoked, options):
    options = GenerationOptions(**options)
    found = engine.generate_ids(SOURCES, options)
    np.testing.assert_array_equal(found, by_keras.generate_ids(SOURCES, options))
    assert len({tuple(row) for row in found.tolist()}) > TEXTS, "texts differ"
    together = f"decode_{TEXTS}" if options.beams == 1 else f"decode_{TEXTS}x{BEAMS}"
    alone = "decode" if options.beams == 1 else "decode_beams"
    assert {together, alone, f"prefill_{TEXTS}x3", f"prefill_{TEXTS}x7"} <= {*invoked}
    if not options.temperature:  # the draws of a text depend on its place
        single = [engine.generate_ids([ids], options)[0] for ids in SOURCES]
        np.testing.assert_array_equal(found, single)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "seed": 2}])
def test_drafted_texts_are_those_of_single_steps(engine, invoked, monkeypatch, options):
    monkeypatch.setattr(drafting, "_WORTH_IF_SLOW", 0)
    options, found = GenerationOptions(**options), {}
    sources = [[4, 9, 4, 9, 4], [7] * 15, [5, 11, 3, 5, 11, 20, 5, 11], [6]]
    for name, hits in {"drafted": Hits(128), "single": None}.items():
        engine.hits = hits
        found[name] = [engine.generate_ids([ids] * 2, options).tolist() for ids in sources]
        assert ("verify_5" in invoked) == (hits is not None)
        invoked.clear()
    assert found["drafted"] == found["single"]


def test_several_tokens_are_read_as_one_by_one(engine, by_keras):
    source, ids = SOURCES[9], np.random.default_rng(5).integers(3, 23, LONGEST)
    expected, steps = expected_logits(by_keras, source, ids), engine.start(source)
    for position in (0, 5, 3, 8, 13, 14):
        found = steps.verify(ids[position : position + 5].tolist(), position)
        np.testing.assert_allclose(found, expected[position : position + 5], atol=3e-4)


@pytest.mark.parametrize("length", [3, FIRST + 1])
def test_short_sources_are_read_by_steps_for_them(engine, by_keras, invoked, length):
    source = np.random.default_rng(length).integers(3, 23, length).tolist()
    ids = np.random.default_rng(6).integers(3, 23, LONGEST)
    expected, steps = expected_logits(by_keras, source, ids), engine.start(source)
    for position in range(LONGEST):
        found, _ = steps.step(ids[position : position + 1], position, None)
        np.testing.assert_allclose(found[0], expected[position], atol=3e-4)
    near = FIRST if length <= FIRST else 0
    _, *ran = invoked
    names = ["first_6_prefill" if near else "prefill"] + ["first_6_decode"] * near
    assert ran == names + ["decode"] * (LONGEST - near)


def test_logits_are_not_copied_for_their_deviation():
    logits = [np.random.default_rng(n).normal(3, 2, (n, 11)).astype("float32") for n in (1, 5, 3)]
    assert _deviation(logits) == pytest.approx(np.std(np.concatenate(logits)), rel=1e-5)


def test_a_text_that_ends_makes_room(engine, invoked):
    short = [SOURCES[index % 6] for index in range(23)]
    engine.generate_ids(short, GenerationOptions(max_new_tokens=2))
    assert invoked.count(f"decode_{TEXTS}") == 2 * -(-23 // TEXTS)
    assert "decode" not in invoked


@pytest.mark.parametrize("is_large", [False, True])
def test_large_caches_are_freed_when_all_texts_have_ended(engine, monkeypatch, is_large):
    monkeypatch.setattr(seq2seq, "MOST_KEPT", 1 if is_large else 10**6)
    made, make = [], Signature.input_buffer
    monkeypatch.setattr(
        Signature,
        "input_buffer",
        lambda self, *given: (made.append(given[0]), make(self, *given))[1],
    )
    options = GenerationOptions(max_new_tokens=2)
    first = engine.generate_ids(SOURCES[:5], options)
    rows = Seq2SeqRows(engine)
    for _ in range(2):
        for row in range(4):
            rows.begin(row, SOURCES[row])
        rows.step([0, 1, 2, 3], np.array([2, 2, 2, 2]))
        for row in range(4):
            rows.end(row)
    np.testing.assert_array_equal(engine.generate_ids(SOURCES[:5], options), first)
    assert made.count("visible") == (4 if is_large else 1), "once for each use"


def expected_logits(by_keras, source, ids):
    inputs = {"encoder_token_ids": np.array([source]), "decoder_token_ids": np.array([ids])}
    return np.asarray(by_keras.model(inputs, training=False))[0]


@pytest.mark.slow  # test_reaches.py has it, of models of one stack
def test_rows_begin_and_end_at_any_time(engine, by_keras, invoked):
    """As a server runs them: some alone, many together, some longer than the common caches."""
    random, rows = np.random.default_rng(2), Seq2SeqRows(engine)
    texts: dict[int, tuple] = {}
    for _ in range(40):
        for row in set(range(rows.count)) - texts.keys():
            if random.random() < 0.5:
                source = random.integers(3, 23, random.integers(1, LONGEST)).tolist()
                first = rows.begin(row, source)
                ids = [first, *random.integers(3, 23, random.integers(0, 18)).tolist()]
                texts[row] = (0, ids, expected_logits(by_keras, source, ids))
        running = sorted(texts)
        if not running:
            continue
        tokens = np.array([texts[row][1][texts[row][0]] for row in running])
        for row, found in zip(running, rows.step(running, tokens), strict=True):
            position, ids, expected = texts.pop(row)
            np.testing.assert_allclose(found, expected[position], atol=3e-4)
            if position + 1 < len(ids) and random.random() < 0.95:
                texts[row] = (position + 1, ids, expected)
            else:
                rows.end(row)
    assert {"decode", f"decode_{TEXTS}"} <= {*invoked}


def test_rows_without_a_text_have_a_position(tmp_path):
    """One text ends at the model's maximum, after which it has no vector; another one goes on."""
    by_keras = KerasEngine(
        tiny_model(0.4, seed=1, position="learned", num_layers=1, max_sequence_length=SLOTS)
    )
    convert(by_keras.model, tmp_path / "model.tflite", rows=2)
    rows = Seq2SeqRows(Seq2SeqEngine(tmp_path / "model.tflite", by_keras.config), fewest=1)
    source, ids = [8, 3, 9], [rows.begin(0, [5, 4]), 7, 11, 6, 20]
    for position in range(SLOTS):
        if position == 3:
            rows.begin(1, source)
        running = [0, 1] if position >= 3 else [0]
        rows.step(running, np.array([6, ids[max(position - 3, 0)]][: len(running)]))
    rows.end(0)
    (found,) = rows.step([1], np.array(ids[-1:]))
    np.testing.assert_allclose(found, expected_logits(by_keras, source, ids)[-1], atol=3e-4)


def test_verification_steps_with_every_signature(engine, by_keras, invoked):
    written = [
        ([5, 3, 9], [4, 7]),
        ([8], [6] * 17),
        ([3] * 18, [2]),
        ([7, 4, 5, 5, 8], []),
        ([6], [9] * 8),
    ]
    expected, places = SEQ2SEQ.expected(by_keras.model, written), []
    for place, step, theirs in SEQ2SEQ.steps(engine, written):
        places.append((place, step))
        assert len(places) > 1 or invoked.count("first_6_decode") == 1, "logits are not gathered"
        ours = np.broadcast_to(expected[place][step], theirs.shape)
        np.testing.assert_allclose(ours, theirs, atol=3e-4)
    single = [(place, step) for place, steps in enumerate(expected) for step in range(len(steps))]
    # Drafts are verified where a step of five tokens fits.
    verified = [(place, step) for place, step in single if step < LONGEST // 5 * 5]
    near = [(place, step) for place, step in single if place != 2 and step < FIRST]
    verified += [(place, step) for place, step in near if step < 5]
    assert sorted(places) == sorted(single * 4 + verified + near)
    assert {name for name in engine.model.signatures if "encode" not in name} - {*invoked} == set()


@pytest.mark.parametrize("also", ["", "|verify", "|first", "|first|verify"])
def test_older_files_answer_one_text_after_the_other(file, by_keras, invoked, tmp_path, also):
    """The oldest have neither steps that read the first slots nor steps that verify drafts."""
    missing = re.compile(f"(decode|prefill)_{TEXTS}" + also)
    names = {name for name in read_signatures(file) if missing.search(name)}
    older = tmp_path / "model.tflite"
    older.write_bytes(compact.without_signatures(file.read_bytes(), names))
    options = GenerationOptions(max_new_tokens=4)
    engine = Seq2SeqEngine(older, by_keras.config)
    found = engine.generate_ids(SOURCES, options)
    np.testing.assert_array_equal(found, by_keras.generate_ids(SOURCES, options))
    near = set() if "first" in also else {"first_6_decode"}
    assert {name for name in invoked if "decode" in name} == {"decode"} | near
    assert engine.drafted == (1 if "verify" in also else 5)


def test_without_drafts_a_file_has_all_other_steps(monkeypatch, tmp_path):
    monkeypatch.setattr(signatures, "FIRST_SLOTS", (FIRST,))
    tables = []
    for drafts in (True, False):
        conversion = Conversion(model(), {None: tmp_path / "file"}, None, drafts=drafts)
        with conversion._folder:
            tables.append({*conversion.table})
    usual, without = tables
    assert usual - without == {"verify_5", "first_6_verify_5"} and without < usual


class Table:
    """Rows whose logits are drawn from the prompt and what was written, as a model's are."""

    def __init__(self, count, beams):
        self.count, self.beams, self.texts = count, beams, {}

    def begin(self, row, ids):
        assert row not in self.texts
        self.texts[row] = [list(ids)] * self.beams
        return 1

    def end(self, row):
        del self.texts[row]

    def step(self, rows, ids, origins=None):
        assert set(rows) == set(self.texts), "all rows with a text"
        logits = []
        tokens = np.reshape(ids, (len(rows), self.beams)).tolist()
        for place, row in enumerate(rows):
            order = range(self.beams) if origins is None else origins[place]
            pairs = zip(order, tokens[place], strict=True)
            self.texts[row] = [[*self.texts[row][origin], token] for origin, token in pairs]
            logits += [self.logits(text) for text in self.texts[row]]
        return np.array(logits, "float32")

    @staticmethod
    def logits(text):
        return 2 * np.random.default_rng(text).normal(size=23).astype("float32")


@given(st.integers(1, 7), st.integers(0, 10_000), st.sampled_from(["greedy", "draws", "beams"]))
def test_waiting_texts_change_nothing(count, seed, kind):
    """The oracle is the loop over each text by itself."""
    random = np.random.default_rng(seed)
    prompts = [random.integers(3, 23, random.integers(1, 9)).tolist() for _ in range(11)]
    options = GenerationOptions(
        **{"draws": {"temperature": 0.8, "seed": seed}, "beams": {"beams": 3}}.get(kind, {})
    )
    limits = np.full(11, 9) if kind == "beams" else random.integers(0, 10, 11)
    config, draws = tiny_config(), loop.uniforms(options, 9, 11)
    table = Table(count, options.beams)
    found = loop.decode_rows(table, prompts, limits, options, config, draws)
    assert found.shape == (11, 9) and found.dtype == "int32" and not table.texts
    for text, (ids, limit) in enumerate(zip(prompts, limits, strict=True)):
        alone = Table(1, options.beams)
        first = np.full(options.beams, alone.begin(0, ids))
        expected = np.full(9, config.padding_id)
        if limit:

            def step(ids, index, origins, alone=alone):
                return alone.step([0], ids, origins), None

            expected[:limit] = loop.decode(
                step,
                None,
                first,
                options,
                config,
                draws[:limit, text : text + 1],
                reorder=lambda _, rows: rows[None],
            )[0]
        np.testing.assert_array_equal(found[text], expected)
