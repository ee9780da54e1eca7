"""Checkpoints of every family answer as in `transformers`, by Keras and by TFLite.

What `transformers` answered stands in models/, see README.md there. Here is no PyTorch.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest
from cases import CASES
from fixtures import fixture_of, inputs_of, padded
from weights import OLD_ROPE, tensor, uniform, write_checkpoint

import tfx_transformer as tfx
from tfx_transformer.export.to_litert import convert
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.models.decoding import KerasEngine
from tfx_transformer.runtime.causal import CausalEngine
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine

TASKS = {
    "causal": tfx.CausalLM,
    "seq2seq": tfx.Seq2SeqLM,
    "masked": tfx.MaskedLM,
    "classification": tfx.Classifier,
    "tagging": tfx.Tagger,
    "regression": tfx.Regressor,
    "image": tfx.Classifier,
    "embedding": tfx.Embedder,
}
CLOSE = 1e-4
WRITING = [name for name, case in CASES.items() if case.task in ("causal", "seq2seq")]
# Compiling and converting takes a minute a model on a busy machine. These stand for the others,
# with everything that differs in a step: fewer key heads, windows, relative positions.
ALWAYS_BY_KERAS = ("marian",)
ALWAYS_BY_LITERT = ("gemma3",)  # test_together.py has encoder-decoders
# One of each kind of positions, windows and caches; the test of logits has all.
LONG = ("gpt2", "llama_rope_yarn", "phi3_long", "gemma3", "t5", "marian")
CACHED = (*LONG, "mistral", "gpt_neox", "qwen3", "smollm3", "gemma2", "opt", "bart")


def slow_but(always: tuple[str, ...]) -> list[Any]:
    """All that write, as parameters of a test: those that `always` has not are slow."""
    return [n if n in always else pytest.param(n, marks=pytest.mark.slow) for n in WRITING]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The model of a case, loaded once."""

    @functools.cache
    def load(name):
        described, _ = fixture_of(name)
        folder = tmp_path_factory.mktemp(name)
        return TASKS[described["task"]].from_pretrained(write_checkpoint(folder, described))

    return load


def assert_answers(model, inputs: dict[str, np.ndarray], expected: np.ndarray) -> None:
    """See `assert_close`."""
    actual = np.asarray(model(inputs, training=False))
    assert actual.shape == expected.shape
    assert_close(model, actual, expected)


def assert_close(model, actual, expected: np.ndarray) -> None:
    """Within 1e-4, but where a row has ended: there the reference's answer is 0. Padding, which
    `bad_words_ids` forbids a Marian to write, our model itself never writes."""
    actual, inside = np.asarray(actual), expected.any(-1, keepdims=True)
    if model.config.position == "sinusoidal_halves":  # of a Marian alone
        forbidden = np.arange(expected.shape[-1]) == model.config.padding_id
        assert (actual[..., forbidden] < -1000).all()
        inside = inside & ~forbidden
    np.testing.assert_allclose(actual * inside, expected * inside, atol=CLOSE, rtol=0)


# Fixtures


def test_numbers_are_those_of_splitmix64():
    """Steele, Lea & Flood (2014); seed 0, which is the checksum of no letters."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert uniform("", 3).tolist() == [(number >> 40) / 2**24 for number in published]


def test_weights_are_spread_as_told():
    kernel, norm = tensor("a.weight", (97, 64)), tensor("norm.weight", (997,))
    assert kernel.std() == pytest.approx(0.8 / 8, rel=0.02) and abs(kernel.mean()) < 0.005
    assert norm.min() >= 0.8 and norm.max() <= 1.2 and norm.std() > 0.1
    assert tensor("attn.c_proj.weight", (64, 97)).std() == pytest.approx(0.8 / 8, rel=0.02)
    assert not np.array_equal(kernel, tensor("b.weight", (97, 64)))


@pytest.mark.parametrize("name", CASES)
def test_a_fixture_is_of_its_case(name):
    described, _ = fixture_of(name)
    case = CASES[name]
    assert (described["architecture"], described["task"]) == (case.architecture, case.task)
    config = json.loads(json.dumps(case.settings | case.written))
    assert described["config"] | config == described["config"], "run make_models.py again"
    assert described["scales"] == case.scales and described["files"] == case.files


# Answers


@pytest.mark.parametrize("name", CASES)
def test_logits_or_vectors(loaded, name):
    model, (_, arrays) = loaded(name), fixture_of(name)
    expected = arrays["vectors" if "vectors" in arrays else "logits"]
    assert_answers(model, inputs_of(model, name), expected)


@pytest.mark.parametrize("name", ["bert", "bert_classifier", "electra", "electra_classifier"])
def test_second_texts(loaded, name):
    described, arrays = fixture_of(name)
    model = loaded(name)
    segments = {"segment_ids": padded(described["inputs"]["segment_ids"], 0)}
    assert_answers(model, inputs_of(model, name) | segments, arrays["of_segments"])


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_hidden_states(loaded, name):
    model, (_, arrays) = loaded(name), fixture_of(name)
    states = model.encode(inputs_of(model, name), return_hidden_states=True)[2]
    for actual, expected in zip(states, arrays["hidden_states"], strict=True):
        assert_close(model, actual, expected)


@pytest.mark.slow(
    but=[
        *("llama_rope_llama3", "llama_rope_linear", "llama_rope_yarn", "llama_rope_dynamic"),
        *("gemma3", "phi3_long", "gpt_neox", "modernbert"),
    ]
)
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in CASES if name.startswith(("llama_rope", "gemma3", "phi3"))),
        "gpt_neox",
        "modernbert",
    ],
)
def test_rotary_settings_as_transformers_5_saves_them(tmp_path, name):
    described, arrays = fixture_of(name)
    config = {key: value for key, value in described["config"].items() if key not in OLD_ROPE}
    config["rope_parameters"] = described["rope_parameters"]
    folder = write_checkpoint(tmp_path, described | {"config": config})
    model = TASKS[described["task"]].from_pretrained(folder)
    assert_answers(model, inputs_of(model, name), arrays["logits"])


@pytest.mark.slow(but=["llama"])
@pytest.mark.parametrize("name", ["llama", "t5_v11", "vit"])
def test_several_shards(tmp_path, name):
    described, arrays = fixture_of(name)
    folder = write_checkpoint(tmp_path, described, shards=3)
    assert len(list(folder.glob("*.safetensors"))) == 3
    model = TASKS[described["task"]].from_pretrained(folder)
    assert_answers(model, inputs_of(model, name), arrays["logits"])


# Greedy continuations of 64 tokens


def continuation(name: str) -> tuple[list[list[int]], list[list[int]]]:
    """Two prompts, and what the reference wrote after each."""
    described, arrays = fixture_of(name)
    written = arrays["greedy"].tolist()
    assert [len(row) for row in written] == [64, 64]
    return described["inputs"]["prompts"], written


@pytest.mark.parametrize("name", slow_but(LONG))
def test_greedy_without_cache(loaded, name):
    """One pass over a prompt and all that follows: as no token sees a later one, it shows at each
    place what a pass of its own would have written there."""
    model = loaded(name)
    for prompt, written in zip(*continuation(name), strict=True):
        if model.task == "seq2seq":
            target = [model.config.start_id, *written[:-1]]
            rows = {"encoder_token_ids": [prompt], "decoder_token_ids": [target]}
        else:
            rows = {"token_ids": [prompt + written[:-1]]}
        rows = {key: np.array(value, "int32") for key, value in rows.items()}
        logits = np.asarray(model(rows, training=False))[0]
        assert logits.argmax(-1)[-64:].tolist() == written


@pytest.mark.parametrize("name", slow_but(CACHED))
def test_logits_with_cache(loaded, name):
    """A prompt at once, then a few more tokens, then one."""
    model, (_, arrays) = loaded(name), fixture_of(name)
    inputs, expected = inputs_of(model, name), arrays["logits"]
    token_ids, memory = inputs.get("token_ids"), ()
    if model.task == "seq2seq":
        token_ids = inputs["decoder_token_ids"]
        vectors, mask = model.encode(inputs["encoder_token_ids"], training=False)
        memory = (model.project_memory(vectors), mask)
    cache = model.new_cache(2, 19)
    for start, stop in [(0, 6), (6, 10), (10, 11)]:
        logits, cache = model.decode(
            token_ids[:, start:stop], *memory, cache=cache, position=start, training=False
        )
        assert_close(model, logits, expected[:, start:stop])


@pytest.mark.parametrize("name", slow_but(ALWAYS_BY_KERAS))
def test_greedy_by_keras(loaded, name):
    prompts, written = continuation(name)
    engine = KerasEngine(loaded(name))
    rows = engine.generate_ids(prompts, GenerationOptions(max_new_tokens=64))
    assert rows.tolist() == written


@pytest.mark.parametrize("name", slow_but(ALWAYS_BY_LITERT))
def test_greedy_by_litert(loaded, tmp_path, name):
    prompts, written = continuation(name)
    model, file = loaded(name), tmp_path / "model.tflite"
    convert(model, file, rows=1)
    engine = CausalEngine if model.task == "causal" else Seq2SeqEngine
    rows = engine(file, model.config).generate_ids(prompts, GenerationOptions(max_new_tokens=64))
    assert np.asarray(rows).tolist() == written
