"""Steps whose caches have fewer slots than the context: a text is continued by those that reach as
far as it does. The oracle is Keras, which reads the whole cache."""

import re
from pathlib import Path

import numpy as np
import pytest
from tiny_models import VARIANTS, tiny_causal

from tfx_transformer.export import compact, signatures
from tfx_transformer.export.to_litert import convert
from tfx_transformer.export.verify_generator import CAUSAL
from tfx_transformer.generation import GenerationOptions, drafting
from tfx_transformer.generation.drafting import Hits
from tfx_transformer.models.decoding import KerasEngine
from tfx_transformer.runtime.causal import CausalEngine
from tfx_transformer.runtime.rows import CausalRows
from tfx_transformer.runtime.signature import Signature
from tfx_transformer.runtime.verifier import Verifier

CONTEXT, ROWS = 23, 5
VERIFIERS = {"first_7_verify_5", "first_13_verify_5", "verify_5"}
CLOSE = {"atol": 5e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """The same model by Keras and by a TFLite file whose caches have 7, 13 or all 23 slots."""
    # Distances are scores over the slots that are read, whatever the attention's own window is.
    settings = VARIANTS["llama"] | {"position": "relative", "sliding_window": 9}
    model = tiny_causal(0.4, seed=1, **settings, max_sequence_length=CONTEXT)
    file = tmp_path_factory.mktemp("reaches") / "model.tflite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "FIRST_SLOTS", (7, 13, CONTEXT, 29))
        patch.setattr(signatures, "PREFILLED_SLOTS", (7, CONTEXT))
        patch.setattr(signatures, "PREFILL_LENGTHS", (1, 3, 8))
        convert(model, file, rows=ROWS)
    return KerasEngine(model), CausalEngine(file, model.config)


@pytest.fixture
def invoked(monkeypatch):
    """The names of the signatures that run."""
    seen, invoke = [], Signature.invoke
    monkeypatch.setattr(
        Signature, "invoke", lambda self, *buffers: (seen.append(self.name), invoke(self, *buffers))
    )
    return seen


def expected_logits(by_keras, ids):
    return np.asarray(by_keras.model({"token_ids": np.array([ids], "int32")}, training=False))[0]


def test_what_the_file_has(engines):
    steps = {"decode", f"decode_{ROWS}", "verify_5"}
    first = {f"first_{slots}_{name}" for slots in (7, 13) for name in steps}
    whole = {"prefill_1", "prefill_3", "prefill_8", *steps}
    first |= {"first_7_prefill_3"}
    assert {*engines[1].model.signatures} == whole | first
    assert not engines[1].model.has_four_bits


def test_each_token_is_read_by_the_nearest_step(engines, invoked):
    by_keras, engine = engines
    ids = np.random.default_rng(3).integers(3, 23, CONTEXT)
    expected, session = expected_logits(by_keras, ids), engine.session()
    for position in range(CONTEXT):
        found = session.step(ids[position : position + 1], position)
        np.testing.assert_allclose(found[0], expected[position], **CLOSE)
    assert invoked == ["first_7_decode"] * 7 + ["first_13_decode"] * 6 + ["decode"] * 10


def test_a_text_that_outgrows_a_cache_frees_it(engines):
    by_keras, engine = engines
    session, held = engine.session(), []
    for seed, length in enumerate((CONTEXT, 9, CONTEXT)):
        ids = np.random.default_rng(seed).integers(3, 23, length)
        expected = expected_logits(by_keras, ids)
        for position in range(length):
            found = session.step(ids[position : position + 1], position)
            np.testing.assert_allclose(found[0], expected[position], **CLOSE)
        held.append(sorted(session.caches[0]._buffers))
    assert held == [[CONTEXT], [13, CONTEXT], [CONTEXT]]


@pytest.mark.parametrize("count", [1, 7, 8, 13, 22])
def test_prompts_of_every_length(engines, count):
    by_keras, engine = engines
    ids = np.random.default_rng(count).integers(3, 23, CONTEXT)
    expected, session = expected_logits(by_keras, ids), engine.session()
    session.extend(ids[:count].tolist(), 0)
    for position in range(count, CONTEXT):
        found = session.step(ids[position : position + 1], position)
        np.testing.assert_allclose(found[0], expected[position], **CLOSE)


def test_a_short_prompt_is_read_near_by(engines, invoked):
    session = engines[1].session()
    session.extend([5] * 6, 0)
    assert invoked == ["prefill_8"]
    invoked.clear()
    session.extend([5] * 3, 4)
    assert invoked == ["first_7_prefill_3"]
    invoked.clear()
    session.extend([5] * 3, 5)
    assert invoked == ["prefill_3"]


def test_many_texts_at_a_time(engines):
    by_keras, engine = engines
    random = np.random.default_rng(0)
    prompts = [random.integers(3, 23, n).tolist() for n in (1, 2, 3, 1, 2, 18, 4, 10, 7, 1, 12)]
    options = GenerationOptions(temperature=1.3, seed=5)
    found = engine.generate_ids(prompts, options)
    np.testing.assert_array_equal(found, by_keras.generate_ids(prompts, options))


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "seed": 2}])
def test_drafted_texts_are_those_of_single_steps(engines, invoked, monkeypatch, options):
    monkeypatch.setattr(drafting, "_WORTH_IF_SLOW", 0)
    by_keras, engine = engines
    options, found = GenerationOptions(**options), {}
    random = np.random.default_rng(3)
    prompts = [random.integers(3, 5, n).tolist() for n in (1, 12, 3, 17, 7)]
    for name, used in {"drafted": Hits(128), "single": None}.items():
        monkeypatch.setattr(engine, "hits", used)
        found[name] = [engine.generate_ids([ids], options)[0].tolist() for ids in prompts]
        verified = {one for one in invoked if "verify" in one}
        assert verified == (VERIFIERS if used else set())
        invoked.clear()
    assert found["drafted"] == found["single"]


def test_texts_that_ran_together_are_drafted(engines, monkeypatch):
    """One of five texts goes on alone: it is drafted from what was written in common steps."""
    monkeypatch.setattr(drafting, "_WORTH_IF_SLOW", 0)
    monkeypatch.setattr(engines[1], "hits", Hits(128))
    drafted, run = [], Verifier.run
    monkeypatch.setattr(
        Verifier, "run", lambda self, ids, *rest: (drafted.append([*ids]), run(self, ids, *rest))[1]
    )
    rows, written = CausalRows(engines[1]), [3, 4, 5, 6, 7, 8, 9, 3, 4]
    for row in range(ROWS):
        rows.begin(row, [3])
    for token in written[:-1]:
        rows.step(range(ROWS), np.full(ROWS, token))
    assert not drafted
    rows.step([2], np.array(written[-1:]))
    assert drafted == [[4, 5, 6, 7, 8]]


def test_several_tokens_are_read_as_one_by_one(engines):
    by_keras, engine = engines
    ids = np.random.default_rng(5).integers(3, 23, CONTEXT)
    expected, session = expected_logits(by_keras, ids), engine.session()
    session.extend(ids[:9].tolist(), 0)
    for position in (9, 1, 2, 13):
        found = session.verify(ids[position : position + 5].tolist(), position)
        np.testing.assert_allclose(found, expected[position : position + 5], **CLOSE)
    with pytest.raises(ValueError, match="position 19"):
        session.verify([3], 19)


@pytest.mark.parametrize("missing", ["verify", "first", "first|verify", f"first|verify|_{ROWS}"])
def test_files_of_older_versions(engines, invoked, tmp_path, missing):
    """The oldest have one step, for one text, which reads all slots."""
    by_keras, engine = engines
    names = {name for name in engine.model.signatures if re.search(missing, name)}
    file = tmp_path / "model.tflite"
    file.write_bytes(compact.without_signatures(Path(engine.model.file).read_bytes(), names))
    older, options = CausalEngine(file, by_keras.config), GenerationOptions(temperature=1.3)
    prompts = [[5, 3, 9], [8], [7, 4, 7, 4, 7, 4, 7, 4], [6, 6], [3] * 12, [4, 20]]
    for texts in (prompts, prompts[1:4]):  # together, and one after the other
        found = older.generate_ids(texts, options)
        np.testing.assert_array_equal(found, by_keras.generate_ids(texts, options))
    assert not names & {*invoked}
    assert older.drafted == (1 if "verify" in missing else 5)


def test_rows_begin_and_end_at_any_time(engines, invoked):
    """As a server runs them: some rows alone, many together, in caches that they share."""
    by_keras, engine = engines
    random, rows = np.random.default_rng(2), CausalRows(engine)
    texts: dict[int, tuple] = {}
    for _ in range(25):
        for row in set(range(rows.count)) - texts.keys():
            if random.random() < 0.6:
                ids = random.integers(3, 23, random.integers(2, CONTEXT + 1))
                count = int(random.integers(1, len(ids)))
                rows.begin(row, ids[:count].tolist())
                texts[row] = (ids, count - 1, expected_logits(by_keras, ids))
        running = sorted(texts)
        if not running:
            continue
        tokens = [int(texts[row][0][texts[row][1]]) for row in running]
        for row, found in zip(running, rows.step(running, tokens), strict=True):
            ids, position, expected = texts.pop(row)
            np.testing.assert_allclose(found, expected[position], **CLOSE)
            if position + 1 < len(ids) and random.random() < 0.9:
                texts[row] = (ids, position + 1, expected)
    assert {"first_7_decode", "decode", f"first_13_decode_{ROWS}", f"decode_{ROWS}"} <= {*invoked}


def test_verification_steps_with_every_reach(engines, invoked):
    by_keras, engine = engines
    hits = engine.hits
    # The last text leaves the first reach after two steps, while others go on.
    written = [([5, 3, 9], [4, 7]), ([8], [6] * 12), ([3] * 22, [2]), ([7, 4, 6, 8, 5, 3], [9] * 9)]
    expected, places = CAUSAL.expected(by_keras.model, written), []
    for place, step, theirs in CAUSAL.steps(engine, written):
        places += [place] * (step == 0)
        np.testing.assert_allclose(expected[place][step], theirs, **CLOSE)
    engine.hits = hits
    each = [0, 1, 3] * 3 + [2]
    verified = [0, 1] + [0, 1, 3] * 2  # where five tokens fit into 7 slots, 13, and all
    assert sorted(places) == sorted(each * 2 + verified), "each reach, alone and together"
    steps = {name for name in engine.model.signatures if "prefill" not in name}
    assert steps <= {*invoked}
