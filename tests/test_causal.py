"""The decoder-only model: against keras-hub's GPT-2, packing, the cache, and the decode loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from slow import ALL_TESTS
from tiny_models import VARIANTS, perturbed, tiny_causal, tiny_config

from tfx_transformer.export.to_litert import convert
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.models.decoding import KerasEngine
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.runtime.causal import CausalEngine, LiteRTSession

END, PAD = 2, 0
CAUSAL = {name: v for name, v in VARIANTS.items() if name != "shallow_decoder"}
PROMPTS = [[5, 9, 4, 13, 22, 7], [8], [17, 3, 3, 11], [20, 6, 15, 12, 9, 9, 4, 21, 3, 7, 16]]


@pytest.fixture(scope="module", params=["rotary", "learned"])
def engine(request):
    """Writes different texts, some of which end."""
    return KerasEngine(tiny_causal(0.4, seed=1, position=request.param, tie_embeddings=False))


def logits_of(model, rows):
    return np.asarray(model({"token_ids": np.array(rows, "int32")}, training=False))


def test_equals_the_gpt2_of_keras_hub():
    import keras_hub

    sizes = {"num_layers": 3, "num_heads": 2, "hidden_dim": 14, "intermediate_dim": 11}
    keras.utils.set_random_seed(0)
    hub = keras_hub.models.GPT2Backbone(23, max_sequence_length=19, dropout=0.0, **sizes)
    perturbed(hub, 0.3)
    config = tiny_config(**sizes, position="learned", scale_embedding=False, activation="gelu_tanh")
    ours = CausalLM(config)
    ours.embedding.embeddings.assign(hub.token_embedding.embeddings)
    ours.decoder.positions.embeddings.assign(
        hub.get_layer("position_embedding").position_embeddings
    )
    for block, theirs in zip(ours.decoder.blocks, hub.transformer_layers, strict=True):
        attention = theirs._self_attention_layer
        pairs = [
            (block.attention.query, attention._query_dense),
            (block.attention.key, attention._key_dense),
            (block.attention.value, attention._value_dense),
            (block.attention.output_projection, attention._output_dense),
            (block.feed_forward.expand, theirs._feedforward_intermediate_dense),
            (block.feed_forward.contract, theirs._feedforward_output_dense),
        ]
        for mine, other in pairs:
            mine.kernel.assign(np.reshape(other.kernel, mine.kernel.shape))
            mine.bias.assign(np.reshape(other.bias, mine.bias.shape))
        norms = [
            (block.attention_norm, theirs._self_attention_layer_norm),
            (block.feed_forward_norm, theirs._feedforward_layer_norm),
        ]
        for mine, other in norms:
            mine.set_weights(other.get_weights())
    ours.decoder.final_norm.set_weights(hub.get_layer("layer_norm").get_weights())
    ids = np.random.default_rng(0).integers(3, 23, (5, 17))
    vectors = hub({"token_ids": ids, "padding_mask": np.ones_like(ids)}, training=False)
    expected = np.asarray(hub.token_embedding(vectors, reverse=True))
    np.testing.assert_allclose(logits_of(ours, ids), expected, atol=1e-5)


@pytest.mark.slow(but=["llama"])  # test_seq2seq.py has the default
@pytest.mark.parametrize("settings", CAUSAL.values(), ids=CAUSAL)
def test_cached_equals_uncached(settings):
    model = tiny_causal(**settings)
    ids = np.random.default_rng(1).integers(3, 23, (3, 17)).astype("int32")
    expected = logits_of(model, ids)

    # Prefill of 7, prefill of 3 more, then one at a time.
    cache = model.prefill(ids[:, :7], model.new_cache(3, 19))
    logits, cache = model.decode(ids[:, 7:10], cache=cache, position=7, training=False)
    np.testing.assert_allclose(logits, expected[:, 7:10], atol=1e-5)
    for index in range(10, 17):
        logits, cache = model.step(ids[:, index], 0, index, cache)
        np.testing.assert_allclose(logits, expected[:, index], atol=1e-5)


@pytest.mark.slow(but=["settings2"])
@pytest.mark.parametrize("settings", [CAUSAL["default"], CAUSAL["learned"], CAUSAL["llama"]])
def test_rows_at_different_positions(settings):
    model = tiny_causal(**settings)
    ids = np.random.default_rng(2).integers(3, 23, (3, 13)).astype("int32")
    lengths = np.array([11, 1, 6], "int32")
    prompts = np.where(np.arange(11) < lengths[:, None], ids[:, :11], PAD)
    first_ids, context, cache = model.begin(prompts, lengths, limit=2)
    np.testing.assert_array_equal(first_ids, ids[np.arange(3), lengths - 1])
    expected = logits_of(model, ids)
    for index in range(2):
        column = ids[np.arange(3), lengths - 1 + index]
        logits, cache = model.step(column, index, context, cache)
        np.testing.assert_allclose(logits, expected[np.arange(3), lengths - 1 + index], atol=1e-5)


def side_by_side(caches):
    """Caches of one row each as one cache of rows kept apart: two lists per block."""
    return [tuple(map(list, zip(*block, strict=True))) for block in zip(*caches, strict=True)]


@pytest.mark.slow(but=["llama"])
@pytest.mark.parametrize("settings", CAUSAL.values(), ids=CAUSAL)
def test_rows_kept_apart(settings):
    model = tiny_causal(**settings)
    ids = np.random.default_rng(5).integers(3, 23, (5, 19)).astype("int32")
    position, rows = np.array([7, 1, 16, 2, 11], "int32"), np.arange(5)
    caches = [
        model.prefill(ids[row : row + 1, :start], model.new_cache(1, 19))
        for row, start in enumerate(position)
    ]
    apart = side_by_side(caches)
    together = [tuple(np.concatenate(part) for part in pair) for pair in apart]
    expected = logits_of(model, ids)
    for step in range(3):
        column = ids[rows, position + step]
        logits, apart = model.step(column, step, position, apart)
        np.testing.assert_allclose(logits, expected[rows, position + step], atol=1e-5)
        logits, together = model.step(column, step, position, together)
        np.testing.assert_allclose(logits, expected[rows, position + step], atol=1e-5)
    for pair, expected_pair in zip(apart, together, strict=True):
        for part, expected_part in zip(pair, expected_pair, strict=True):
            assert [row.shape[0] for row in part] == [1] * 5
            np.testing.assert_allclose(np.concatenate(part), expected_part, atol=1e-5)


# Packing

EXAMPLES = [[5, 9, 4, 13, 22, 7], [8, 3, 3], [17, 3, 3, 11], [6, 19]]


def packed(examples):
    """All examples in one row, three slots of padding behind them."""
    ids = [i for e in examples for i in e] + [PAD] * 3
    positions = [p for e in examples for p in range(len(e))] + [0] * 3
    segments = [n for n, e in enumerate(examples, 1) for _ in e] + [0] * 3
    return {
        "token_ids": np.array([ids], "int32"),
        "positions": np.array([positions], "int32"),
        "segment_ids": np.array([segments], "int32"),
    }


@pytest.mark.slow(but=["learned", "llama"])
@pytest.mark.parametrize("settings", CAUSAL.values(), ids=CAUSAL)
def test_packed_logits_are_those_of_single_examples(settings):
    model = tiny_causal(**settings)
    logits = np.asarray(model(packed(EXAMPLES), training=False))[0]
    start = 0
    for example in EXAMPLES:
        alone = logits_of(model, [example])[0]
        np.testing.assert_allclose(logits[start : start + len(example)], alone, atol=1e-5)
        start += len(example)


@pytest.mark.slow(but=["settings1"])
@pytest.mark.parametrize("settings", [CAUSAL["learned"], CAUSAL["llama"]])
def test_packed_loss_and_gradients_are_those_of_single_examples(settings):
    """Weighed by tokens: prompts (here the first token of each example) bear no loss."""
    model = tiny_causal(**settings)
    model.compile("sgd")
    rows = packed(EXAMPLES)
    labels = np.roll(rows["token_ids"], -1)
    weights = np.zeros(labels.shape, "float32")
    ends = np.cumsum([len(e) for e in EXAMPLES])
    for end, example in zip(ends, EXAMPLES, strict=True):
        weights[0, end - len(example) + 1 : end - 1] = 1

    def loss_and_gradients(inputs, labels, weights):
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            loss = model.compute_loss(y=labels, y_pred=logits, sample_weight=weights)
        gradients = tape.gradient(loss, [w.value for w in model.trainable_weights])
        return float(loss), [tf.convert_to_tensor(g).numpy() for g in gradients]

    loss, gradients = loss_and_gradients(rows, labels, weights)
    total, expected_loss = weights.sum(), 0.0
    expected = [np.zeros_like(g) for g in gradients]
    for example in EXAMPLES:
        own = np.array([[0.0] + [1.0] * (len(example) - 2)], "float32")
        if not own.sum():
            continue
        ids = np.array([example], "int32")
        one, parts = loss_and_gradients({"token_ids": ids[:, :-1]}, ids[:, 1:], own)
        share = own.sum() / total
        expected_loss += share * one
        expected = [e + share * p for e, p in zip(expected, parts, strict=True)]
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    for gradient, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5)


# Decoding


def naive_greedy(model, prompt, limit):
    """By the whole forward pass, anew for each token."""
    ids = list(prompt)
    while len(ids) < len(prompt) + limit:
        ids.append(int(logits_of(model, [ids])[0, -1].argmax()))
        if ids[-1] == END:
            break
    written = ids[len(prompt) :]
    return written + [PAD] * (limit - len(written))


@pytest.mark.slow(but=["learned"])
def test_greedy_is_the_naive_loop(engine):
    options = GenerationOptions(max_new_tokens=7)
    expected = [naive_greedy(engine.model, prompt, 7) for prompt in PROMPTS]
    assert len({tuple(row) for row in expected}) > 1, "the prompts matter"
    assert engine.generate_ids(PROMPTS, options).tolist() == expected
    for prompt, row in zip(PROMPTS, expected, strict=True):
        assert engine.generate_ids([prompt], options).tolist() == [row]
        assert engine.generate_ids([prompt, prompt], options).tolist() == [row, row]


@pytest.mark.slow(but=["learned"])
def test_every_prompt_has_the_room_it_would_have_alone(engine):
    longest = engine.config.max_sequence_length
    long = (PROMPTS[3] * 2)[: longest - 2]
    rows = engine.generate_ids([long, PROMPTS[0]], GenerationOptions())
    alone = engine.generate_ids([long], GenerationOptions())
    assert alone.shape == (1, 2) and rows.shape == (2, longest - len(PROMPTS[0]))
    np.testing.assert_array_equal(rows[0, :2], alone[0])
    assert not rows[0, 2:].any()
    assert rows[1].tolist() == naive_greedy(engine.model, PROMPTS[0], rows.shape[1])


@pytest.mark.slow(but=["learned-beams", "learned-greedy"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beams": 3},
        {"repetition_penalty": 1.5},
        {"temperature": 0.9, "top_k": 9, "top_p": 0.9, "seed": 5},
    ],
    ids=["greedy", "beams", "penalty", "sampling"],
)
def test_compiled_loop_and_steps_agree(engine, options):
    options = GenerationOptions(max_new_tokens=7, **options)
    written = engine.generate_ids(PROMPTS, options)
    steps = []
    by_steps = engine.generate_ids(PROMPTS, options, on_ids=steps.append)
    np.testing.assert_array_equal(written, by_steps)
    if options.beams == 1:
        np.testing.assert_array_equal(np.stack(steps, axis=1), written[:, : len(steps)])
    for prompt, row in zip(PROMPTS, written, strict=True):
        if not options.temperature:
            np.testing.assert_array_equal(engine.generate_ids([prompt], options)[0], row)


@pytest.mark.slow(but=["learned"])
def test_xla_writes_the_same(engine):
    compiled = KerasEngine(engine.model, jit_compile=True)
    options = GenerationOptions(max_new_tokens=5)
    for prompts in (PROMPTS, PROMPTS[:1])[: 2 if ALL_TESTS else 1]:  # compiled for each
        np.testing.assert_array_equal(
            compiled.generate_ids(prompts, options), engine.generate_ids(prompts, options)
        )


def test_no_call_compiles_anew():
    engine = KerasEngine(tiny_causal())
    for count, limit in [(1, 3), (1, 5), (4, 7), (3, 2)]:
        engine.generate_ids(PROMPTS[:count], GenerationOptions(max_new_tokens=limit))
    counts = {k[1]: f.experimental_get_tracing_count() for k, f in engine._loops.items()}
    assert counts == {0: 1, 1: 1}, "one for prompts of one length, one for others"


# Several texts by one TFLite file


@pytest.fixture(scope="module")
def by_litert(tmp_path_factory):
    """The same model by Keras and by LiteRT."""
    model = tiny_causal(0.4, seed=1, position="rotary", num_key_value_heads=2, tie_embeddings=False)
    file = tmp_path_factory.mktemp("batch") / "model.tflite"
    convert(model, file)
    return KerasEngine(model), CausalEngine(file, model.config)


@pytest.fixture
def sizes(monkeypatch):
    """Numbers of texts that LiteRT ran together, one a step."""
    seen, step = [], LiteRTSession.step

    def watched(session, ids, position):
        seen.append(len(ids))
        return step(session, ids, position)

    monkeypatch.setattr(LiteRTSession, "step", watched)
    return seen


@pytest.mark.slow(but=["sampling-11-groups4"])
@pytest.mark.parametrize(
    ("count", "groups"), [(1, {1}), (2, {1}), (3, {1}), (8, {8}), (11, {8, 1})]
)
@pytest.mark.parametrize(
    "options",
    [{}, {"max_new_tokens": 5, "temperature": 1.1, "seed": 3}, {"repetition_penalty": 1.7}],
    ids=["greedy", "sampling", "penalty"],
)
def test_texts_run_together_as_alone(by_litert, sizes, monkeypatch, count, groups, options):
    by_keras, engine = by_litert
    random = np.random.default_rng(count)
    # The first leaves room for one token only.
    lengths = [18, 1, 7, 17, 2, 12, 5, 3, 1, 16, 9][:count]
    prompts = [random.integers(3, 23, length).tolist() for length in lengths]
    options = GenerationOptions(**options)
    together = engine.generate_ids(prompts, options)
    assert {*sizes} - {1} == groups - {1}  # the last ones go on alone
    np.testing.assert_array_equal(together, by_keras.generate_ids(prompts, options))
    monkeypatch.setattr(engine, "rows", 1)  # as a file without that signature
    sizes.clear()
    np.testing.assert_array_equal(engine.generate_ids(prompts, options), together)
    assert {*sizes} == {1}


def test_a_row_without_room_disturbs_no_other(by_litert, sizes):
    """It goes on for as long as its neighbours do, in a cache that later texts use."""
    _, engine = by_litert
    prompts = [[5] * 18, *([token] for token in range(3, 14))]
    options = GenerationOptions(repetition_penalty=1.7)
    first = engine.generate_ids(prompts * 2, options)
    assert max(sizes) == 8 and not first[0, 1:].any()
    np.testing.assert_array_equal(first[:12], first[12:])


def test_watched_texts_run_alone(by_litert, sizes):
    _, engine = by_litert
    options, seen = GenerationOptions(max_new_tokens=3), []
    rows = engine.generate_ids([[5], [9], [4], [13], [7]], options, lambda ids: seen.extend(ids))
    assert {*sizes} == {1} and seen == [i for i in rows.flatten() if i != PAD]


# A session


@pytest.mark.slow(but=["learned"])
def test_a_session_continues_where_it_stands(engine):
    session, model = engine.session(), engine.model
    ids = np.random.default_rng(3).integers(3, 23, 17).astype("int32")
    expected = logits_of(model, ids[None])[0]
    session.extend(ids[:5].tolist(), 0)
    np.testing.assert_allclose(session.step(ids[5:6], 5)[0], expected[5], atol=1e-5)
    session.extend(ids[6:11].tolist(), 6)
    np.testing.assert_allclose(session.step(ids[11:12], 11)[0], expected[11], atol=1e-5)
    # Back to an earlier place: what was written behind it no longer counts.
    session.extend(ids[3:5].tolist(), 3)
    np.testing.assert_allclose(session.step(ids[5:6], 5)[0], expected[5], atol=1e-5)


def test_fit_and_save(tmp_path):
    model = tiny_causal(num_layers=1)
    model.compile("adamw")
    ids = np.random.default_rng(4).integers(3, 23, (11, 9)).astype("int32")
    batches = tf.data.Dataset.from_tensors(
        ({"token_ids": ids[:, :-1]}, ids[:, 1:], np.ones((11, 8), "float32"))
    ).repeat(30)
    traces, step = [], model.train_step
    model.train_step = lambda *batch: traces.append(batch) or step(*batch)
    history = model.fit(batches, verbose=0, epochs=3).history
    assert history["loss"][-1] < history["loss"][0] and "perplexity" in history
    assert len(traces) == 1, "tracing takes longer than a small model trains"
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits_of(loaded, ids), logits_of(model, ids))
    assert loaded.label_smoothing == 0 and loaded.loss.label_smoothing == 0
