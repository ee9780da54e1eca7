"""Batches that `fit` iterates: their order is fixed, and kept by `take` and `prefetch`."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tfx_transformer.data.batches import BatchPlan, FreshPlan, tf_dataset
from tfx_transformer.data.corpus import BlockPlan
from tfx_transformer.errors import InputError
from tfx_transformer.training.fit import fit

LENGTHS = np.array([(7 * i) % 11 + 1 for i in range(53)])

# Taken from the version before batches had a class of their own: data, seed and step decide.
ORDERS = {
    "plan": "0db49bb47f16417b",
    "fresh": "4683261d7adf86a2",
    "block": "0dcf87f1ca8513ba",
}
PLANS = {
    "plan": lambda: BatchPlan(LENGTHS, 5, seed=3),
    "fresh": lambda: FreshPlan(LENGTHS, 5, seed=3),
    "block": lambda: BlockPlan(101, 7, 3, seed=3),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_order_of_batches_is_that_of_earlier_versions(name):
    digest = hashlib.sha256()
    for epoch in range(3):
        for batch in PLANS[name]().order(epoch):
            digest.update(np.asarray(batch, "int64").tobytes() + b"|")
    assert digest.hexdigest()[:16] == ORDERS[name]


def read(dataset) -> list[list[int]]:
    return [batch.tolist() for (batch,) in dataset.as_numpy_iterator()]


@pytest.fixture
def plan():
    return BatchPlan(LENGTHS, 5, seed=3)


def expected(plan, epoch, count=None):
    return [indices.tolist() for indices in plan.order(epoch)[:count]]


@pytest.mark.parametrize("count", [None, 1, 3, 99])
def test_take_and_prefetch_keep_the_source(plan, count):
    dataset = tf_dataset(plan, lambda indices: (indices,))
    if count:
        dataset = dataset.take(count).prefetch(2).take(-1)
    steps = min(count or 11, 11)
    assert len(dataset) == len(dataset.plan) == steps
    assert read(dataset) == expected(plan, 0, count)
    assert read(dataset) == expected(plan, 1, count), "the next epoch"
    all_steps = [step for epoch in range(8) for step in expected(plan, epoch, count)]
    for step in (0, 1, steps, steps + 1):
        later = dataset.from_step(step).take(4)
        assert read(later) == all_steps[step : step + 4]
        assert dataset.examples(step).tolist() == all_steps[step]
    assert dataset.names(steps, range(100, 153))[0] == f"row {100 + all_steps[steps][0]}"


def test_tokens_are_those_of_the_batches_that_are_taken(plan):
    dataset = tf_dataset(plan, lambda indices: (indices,))
    assert dataset.tokens() == LENGTHS.sum()
    assert dataset.take(5).tokens() == round(LENGTHS.sum() * 5 / 11)


def test_batches_without_a_source_are_refused_with_a_reason(plan):
    keras = pytest.importorskip("keras")
    from tfx_transformer.training import adamw

    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile(adamw(0.1), "mse")
    dataset = tf_dataset(plan, lambda indices: (indices,)).map(lambda x: x)
    with pytest.raises(InputError, match="do not know their data"):
        fit(model, dataset, dataset, 1, steps=1, checkpoints=None)
