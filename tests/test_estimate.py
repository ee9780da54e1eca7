"""What a training may cost, by hand for models whose sizes are known."""

import json

import keras
import numpy as np
import pytest
from tiny_models import CONVOLUTIONS, tiny_causal, tiny_encoder, tiny_model

from tfx_transformer import training
from tfx_transformer.data.batches import Batches, BatchPlan
from tfx_transformer.models.encoders import Classifier, MaskedLM
from tfx_transformer.models.lora import add_adapters
from tfx_transformer.training import estimate
from tfx_transformer.training.estimate import Cost

# Of tiny_config: 23 tokens, 2 blocks, 24 wide, 13 inside the feed-forward layer. A block has two
# norms, four projections of attention and two of feed-forward, all with biases.
VOCABULARY, WIDTH, INNER = 23, 24, 13
BLOCK = 2 * 2 * WIDTH + 4 * (WIDTH * WIDTH + WIDTH) + 2 * WIDTH * INNER + INNER + WIDTH
CAUSAL = VOCABULARY * WIDTH + 2 * BLOCK + 2 * WIDTH
# Per token: what a block remembers, for each of 6 heads also the scores of 19 tokens, their
# probabilities and gradient; and logits, their probabilities and gradient.
INSIDE = 12 * WIDTH + 3 * INNER
REMEMBERED = INSIDE + 3 * 6 * 19
ACTIVATIONS = 4 * (2 * REMEMBERED + 3 * VOCABULARY)
# Operations for each token and token of its text: 4 forwards and 8 backwards for each feature.
COMPARED = 12 * 2 * WIDTH
RATE = 650


@pytest.fixture
def fast(monkeypatch):
    """A machine that multiplies matrices at 1000 operations a second, and trains at `RATE`; it adds
    4800 numbers a second, and updates 200."""
    monkeypatch.setattr(estimate, "operations_per_second", lambda: 1000.0)
    monkeypatch.setattr(estimate, "_sums_per_second", lambda: 4800.0)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_decoder_by_hand(fast, dropout):
    cost = estimate.estimate(tiny_causal(dropout=dropout), batch_tokens=10, tokens=700, steps=70)
    assert (cost.trained, cost.frozen) == (CAUSAL, 0), "the state of dropout is no parameter"
    # Weights, gradients and two moments, 4 bytes each. Dropout changes 8 vectors, and the scores.
    each = ACTIVATIONS + 4 * 2 * (8 * WIDTH + 6 * 19) * (dropout > 0)
    assert cost.memory == 4 * 4 * CAUSAL + 10 * each
    multiplied = (6 * CAUSAL + 19 * COMPARED) * 700
    rate = 400 if dropout else RATE
    assert cost.seconds == pytest.approx(multiplied / rate + 70 * CAUSAL / 200)
    cost = estimate.estimate(tiny_causal(dropout=dropout), 10, tokens=700, steps=70, parts=5)
    assert cost.memory == 5 * 4 * CAUSAL + 2 * each, "the gradient of a part, and the sum"
    cost = estimate.estimate(tiny_causal(dropout=dropout), 10, tokens=700, steps=70, length=5)
    heads = 6 * (4 if dropout else 3)
    assert cost.memory == 4 * 4 * CAUSAL + 10 * (each - 4 * 2 * heads * (19 - 5))


def test_rematerialisation_keeps_the_inputs_of_blocks_and_the_inside_of_one(fast):
    cost = estimate.estimate(tiny_causal(), 10, tokens=700, steps=0, remat=True)
    kept = 2 * WIDTH + REMEMBERED + 3 * VOCABULARY
    assert cost.memory == 4 * 4 * CAUSAL + 10 * 4 * kept
    compared = 19 * COMPARED * 16 / 12
    assert cost.seconds == pytest.approx((8 * CAUSAL + compared) * 700 / RATE)


def test_an_encoder_decoder_has_two_stacks(fast):
    # The decoder's one block has attention twice, with a third norm.
    cross = BLOCK + 2 * WIDTH + 4 * (WIDTH * WIDTH + WIDTH)
    model = tiny_model(num_decoder_layers=1)
    cost = estimate.estimate(model, batch_tokens=7, tokens=0, steps=0)
    assert cost.trained == VOCABULARY * WIDTH + 2 * BLOCK + cross + 2 * 2 * WIDTH
    assert cost.memory == 16 * cost.trained + 7 * (ACTIVATIONS + 4 * REMEMBERED)
    assert cost.seconds == 0


def test_what_an_encoder_looks_up_is_updated_only(fast):
    model = tiny_encoder(Classifier, num_classes=5, ngram_buckets=97)
    cost = estimate.estimate(model, batch_tokens=7, tokens=70, steps=10)
    multiplied = cost.trained - (VOCABULARY + 97) * WIDTH
    # 70 tokens in 10 batches of 7 fill the 19 places of a text.
    multiplying = (6 * multiplied + 19 * COMPARED) * 70 / RATE
    updating = 10 * cost.trained / 200
    assert cost.seconds == pytest.approx(multiplying + updating)
    model.compile(consistency=1.0)
    twice = estimate.estimate(model, batch_tokens=7, tokens=70, steps=10)
    assert twice.seconds == pytest.approx(2 * multiplying + updating)
    assert twice.memory - cost.memory == 7 * 4 * 2 * REMEMBERED, "there are no logits of tokens"


def test_a_masked_model_reads_out_by_its_embedding(fast):
    model = tiny_encoder(MaskedLM, ngram_buckets=97)
    cost = estimate.estimate(model, batch_tokens=7, tokens=70, steps=0)
    each = 6 * (cost.trained - 97 * WIDTH) + 19 * COMPARED
    assert cost.seconds == pytest.approx(each * 70 / RATE)


def test_convolutions_multiply_at_every_pixel(fast):
    model = tiny_encoder(Classifier, num_classes=3, **CONVOLUTIONS)
    images = 7
    cost = estimate.estimate(model, batch_tokens=9 * images, tokens=9 * images, steps=0)
    first, second = 3 * 3 * 3 * 64, 3 * 3 * 64 * WIDTH
    elsewhere = cost.trained - first - second
    multiplied = 9 * elsewhere + 11**2 * first + 6**2 * second
    compared = 9 * 9 * COMPARED
    assert cost.seconds == pytest.approx((6 * multiplied + compared) * images / RATE)
    maps = 3 * (11**2 * 64 + 6**2 * WIDTH)
    remembered = INSIDE + 3 * 6 * 9
    assert cost.memory == 16 * cost.trained + 4 * images * (9 * 2 * remembered + maps)


@pytest.mark.parametrize(("base_dtype", "kernel_bytes"), [(None, 4), ("bfloat16", 2)])
def test_what_is_frozen_costs_less(fast, base_dtype, kernel_bytes):
    model = tiny_causal()
    add_adapters(model, rank=3, targets=["query"], base_dtype=base_dtype)
    adapters = 2 * 2 * 3 * WIDTH
    kernels = VOCABULARY * WIDTH + 2 * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER)
    cost = estimate.estimate(model, batch_tokens=5, tokens=70, steps=14)
    assert (cost.trained, cost.frozen) == (adapters, CAUSAL)
    frozen_bytes = kernel_bytes * kernels + 4 * (CAUSAL - kernels)
    assert cost.memory == 16 * adapters + frozen_bytes + 5 * ACTIVATIONS
    multiplying = (6 * adapters + 4 * CAUSAL + 19 * COMPARED) * 70 / RATE
    assert cost.seconds == pytest.approx(multiplying + 14 * adapters / 200)


@pytest.mark.parametrize(
    ("seconds", "time"),
    [(0, "less than a minute"), (59.9, "less than a minute"), (60, "1 min"), (7_250, "121 min")],
)
def test_what_is_said(monkeypatch, seconds, time):
    cost = Cost(trained=1_234_567, frozen=89, memory=1_260_400_000, seconds=seconds)
    assert cost.lines() == [
        "parameters  1,234,567 trained, 89 frozen",
        f"estimate    {time} on this machine; 1,260 MB plus TensorFlow's own",
    ]
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert cost.lines()[1].endswith("1,260 MB plus JAX's own")
    assert json.loads(json.dumps(cost.to_dict())) == {
        "trained": 1_234_567, "frozen": 89, "memory": 1_260_400_000, "seconds": seconds,
    }  # fmt: skip


def test_this_machines_speed_is_that_of_its_best_trial(monkeypatch):
    clock = iter(np.cumsum([100, 3, 9, 0.5, 9, 2, 9, 4]))
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))
    assert estimate.operations_per_second() == 2 * 768**3 / 0.5


def test_a_run_that_needs_more_memory_than_there_is_is_warned_of(monkeypatch):
    monkeypatch.setattr(estimate, "machine_memory", lambda: 8e9)
    assert estimate.warn_of_memory(8e9) == []
    first, second = estimate.warn_of_memory(12.34e9)
    assert first.endswith("12.3 GB are needed, and this machine has 8.0 GB")
    assert "--batch-size" in second and "--accumulate" not in second
    _, in_parts = estimate.warn_of_memory(12.34e9, in_parts=True)
    assert "--accumulate" in in_parts and max(map(len, (first, second, in_parts))) <= 88
    monkeypatch.setattr(estimate, "machine_memory", lambda: None)
    assert estimate.warn_of_memory(1e18) == []


@pytest.mark.parametrize(
    ("lengths", "rows"), [([[3], [7]], 2), ([[3], [7]], 4), ([[3, 5], [7, 2]], 4)]
)
def test_a_run_counts_the_texts_that_it_has(fast, lengths, rows, tmp_path, monkeypatch):
    """Texts of 3 and 7 tokens, padded to 8 of 19, in rows that each text has once or twice."""
    monkeypatch.chdir(tmp_path)
    plan = BatchPlan(lengths, batch_size=2)
    batches = Batches(plan, lambda indices: None, lambda *place: None, lambda index: [index], [])
    run = training.Run("short", {"name": "short", "batch_size": 2})
    run.show_cost(tiny_causal(), rows, 19, 70, batches)
    cost = json.loads((run.folder / "cost.json").read_text())
    each = 4 * (2 * (INSIDE + 3 * 6 * 8) + 3 * VOCABULARY)
    assert cost["memory"] == 16 * CAUSAL + 8 * rows * each
    tokens = {2: 10, 4: 20}[rows] if len(lengths[0]) == 1 else 17
    operations = 6 * CAUSAL + COMPARED * tokens / rows  # texts of this mean length
    assert cost["seconds"] == pytest.approx(operations * 70 * tokens / RATE + 70 * CAUSAL / 200)


@pytest.mark.parametrize("name", ["wide", "whole"])
def test_a_run_says_before_it_starts_that_it_does_not_fit(
    fast, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model = tiny_causal()
    run = training.Run(name, {"name": name, "batch_size": 4, "accumulate": 1})
    # Four rows of 19 tokens; of a step in parts, one.
    needed = 16 * CAUSAL + 4 * 19 * ACTIVATIONS
    have = needed - 1 if name == "wide" else needed
    monkeypatch.setattr(estimate, "machine_memory", lambda: have)
    run.show_cost(model, 4, 19, steps=3)
    output = capsys.readouterr().out
    assert ("warning" in output) == (name == "wide")
    assert ("Choose a larger --accumulate" in output) == (name == "wide")
    assert json.loads((run.folder / "cost.json").read_text())["memory"] == needed
