"""Hard negatives of an embedder's pairs, mined while it trains."""

import os
import signal

import keras
import numpy as np
import pytest
from scipy.special import logsumexp
from tiny_models import perturbed, tiny_encoder

import tfx_transformer as tfx
from tfx_transformer.data.hard_negatives import HardNegatives
from tfx_transformer.data.sentence_pair import SentencePairs, sentence_pairs
from tfx_transformer.errors import InputError
from tfx_transformer.models.encoders import Embedder
from tfx_transformer.models.losses import InBatchContrast
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.embedding import MineNegatives, hard_negatives
from tfx_transformer.training.fit import fit

FIRST = [f"{a}{b}" for a in "abcde" for b in "vwxyz"]
SECOND = [f"{b} {a}" for a in "abcde" for b in "vwxyz"]
FIRST[7], SECOND[11], SECOND[13] = FIRST[3], SECOND[4], FIRST[20]


@pytest.mark.parametrize("margin", [1.0, 0.8])
def test_negatives_are_near_and_belong_to_another_text(margin, monkeypatch):
    monkeypatch.setattr("tfx_transformer.data.hard_negatives._BLOCK", 7)
    random = np.random.default_rng(1)
    second = random.normal(size=(25, 5))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    first = second + 0.4 * random.normal(size=(25, 5))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    negatives = HardNegatives(FIRST, SECOND, margin, seed=3)
    negatives.mine(2, first, second)
    cosines = first @ second.T
    for i, found in enumerate(negatives.tables[2]):
        allowed = [
            j
            for j in range(25)
            if cosines[i, j] <= margin * cosines[i, i]
            and FIRST[j] != FIRST[i]
            and SECOND[j] not in (SECOND[i], FIRST[i])
        ]
        assert found in sorted(allowed, key=lambda j: -cosines[i, j])[:5]
    again = HardNegatives(FIRST, SECOND, margin, seed=3)
    again.mine(2, first, second)
    assert again.state() == negatives.state()
    other = HardNegatives(FIRST, SECOND, margin)
    other.restore(negatives.state())
    assert [other.of(2, i) for i in range(25)] == negatives.tables[2].tolist()


def test_before_the_first_mining_they_are_drawn():
    negatives = HardNegatives(FIRST, SECOND)
    drawn = [[negatives.of(epoch, i) for i in range(25)] for epoch in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(found != i for row in drawn for i, found in enumerate(row))
    same = np.eye(25)  # nothing but the own text is near: all others are equally far
    negatives.mine(1, same, same)
    assert all(found != i for i, found in enumerate(negatives.tables[1]))
    negatives.mine(1, same, -same)  # every text is above the margin of its own
    assert all(found != i for i, found in enumerate(negatives.tables[1]))


def test_a_mining_counts_when_no_batch_was_made_ahead_of_it():
    negatives = HardNegatives(FIRST, SECOND)
    assert [negatives.begin_of(epoch, 40) for epoch in range(3)] == [2, 3, 4]
    assert [negatives.begin_of(epoch, 7) for epoch in range(6)] == [None, None, 6, None, None, 9]
    same = np.eye(25)
    for begin in (2, 3, 4):
        negatives.mine(begin, same, same)
    assert sorted(negatives.tables) == [3, 4], "that of the epoch under way, and the next"


def test_batches_and_loss():
    tokenizer = Tokenizer.train([], 259)
    pairs = SentencePairs(FIRST, SECOND, None, list(range(25)))
    negatives = HardNegatives(FIRST, SECOND)
    batches = sentence_pairs(pairs, tokenizer, batch_size=6, negatives=negatives)
    for step in (0, 9):
        epoch = step // len(batches)
        inputs, _, _ = batches.batch(batches.examples(step))
        indices = [batches.plan.index(number) for number in batches.examples(step)]
        decoded = [tokenizer.decode(r) for r in inputs["negative_token_ids"].tolist()]
        assert decoded == [SECOND[negatives.of(epoch, i)] for i in indices]
        belongs = [
            [
                text == FIRST[i] or (FIRST[i], text) in zip(FIRST, SECOND, strict=True)
                for text in decoded
            ]
            for i in indices
        ]
        np.testing.assert_array_equal(inputs["excluded_negatives"], belongs)
    cosines = np.random.default_rng(2).uniform(-1, 1, (3, 6)).astype("float32")
    z = cosines / 0.1
    own = np.diagonal(z)
    expected = (logsumexp(z, axis=1) + logsumexp(z[:, :3], axis=0)) / 2 - own
    assert float(InBatchContrast(0.1)(np.ones(3), cosines)) == pytest.approx(expected.mean(), 1e-5)


def test_negatives_are_further_columns():
    model = perturbed(tiny_encoder(Embedder))
    ids = np.array([[1, 5, 9, 2], [1, 7, 2, 0], [1, 8, 2, 0]], "int32")
    inputs = {"token_ids": ids, "pair_token_ids": ids[::-1], "negative_token_ids": ids}
    vectors = np.asarray(model(ids))
    expected = vectors @ np.concatenate([vectors[::-1], vectors]).T
    np.testing.assert_allclose(model(inputs), expected, atol=1e-5)


def test_the_text_of_another_row_is_not_its_negative():
    """Pairs 3 and 7 have the same first text, so the second text of one belongs to the other; the
    second text of pair 13 is the first text of pair 20."""
    negatives = HardNegatives(FIRST, SECOND)
    excluded = negatives.excluded([3, 7, 20, 1], [7, 20, 13, 2])
    assert excluded.tolist() == [
        [True, False, False, False],
        [True, False, False, False],
        [False, True, True, False],
        [False, False, False, False],
    ]


@pytest.mark.parametrize("widths", [(), (5,)])
def test_an_excluded_negative_does_not_count(widths):
    model = perturbed(tiny_encoder(Embedder, widths=widths))
    ids = np.array([[1, 5, 9, 2], [1, 7, 2, 0], [1, 8, 2, 0]], "int32")
    inputs = {"token_ids": ids, "pair_token_ids": ids[::-1], "negative_token_ids": ids}
    left_out = np.eye(3, dtype=bool)[:, ::-1]
    found = np.asarray(model(inputs | {"excluded_negatives": left_out}))
    cosines = np.asarray(model(inputs))
    counted = np.concatenate([np.ones((3, 3), bool), ~left_out], axis=1)
    np.testing.assert_array_equal(found[counted], cosines[counted])
    first = {name: rows[:2] for name, rows in (inputs | {"excluded_negatives": left_out}).items()}
    np.testing.assert_allclose(model(first), found[:2][:, [0, 1, 3, 4]], atol=1e-6)
    losses = []
    for width in range(len(widths) + 1):
        z = cosines.reshape(3, 6, -1)[..., width] / 0.05
        among = [logsumexp(z[i, counted[i]]) for i in range(3)]
        losses.append((among + logsumexp(z[:, :3], axis=0)) / 2 - np.diagonal(z))
    model.compile("sgd")
    assert float(model.loss(np.ones(3), found)) == pytest.approx(np.mean(losses), 1e-5)


def test_what_has_no_negatives_is_refused():
    pairs = SentencePairs(FIRST, SECOND, [0.5] * 25, list(range(25)))
    assert hard_negatives(pairs, False, 0.9, 1) is None
    with pytest.raises(InputError, match="Drop --hard-negatives, or --score"):
        hard_negatives(pairs, True, 0.9, 1)
    with pytest.raises(InputError, match="negative_margin is 1.5"):
        HardNegatives(FIRST, SECOND, 1.5)


class Stop(keras.callbacks.Callback):
    """Sends SIGTERM after some steps."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    """25 pairs make 12 steps, so the mining after the second epoch counts in the fifth; the
    training is interrupted in the third."""
    tokenizer = Tokenizer.train([], 259)
    pairs = SentencePairs(FIRST, SECOND, None, list(range(25)))

    def trained(folder, *others):
        keras.utils.set_random_seed(5)
        model = perturbed(tiny_encoder(Embedder, vocabulary_size=259, dropout=0.1))
        model.compile(tfx.training.adamw(1e-2, warmup_steps=2, total_steps=80))
        negatives = HardNegatives(FIRST, SECOND)
        batches = sentence_pairs(pairs, tokenizer, batch_size=2, negatives=negatives)
        checks = sentence_pairs(pairs, tokenizer, batch_size=5, shuffle=False)
        mining = MineNegatives(tfx.predictor(model, tokenizer), negatives, len(batches))
        options = {"steps": len(batches), "checkpoints": Checkpoints(folder)}
        fit(model, batches, checks, 5, [mining, *others], **options)
        return model.get_weights(), negatives.tables

    weights, tables = trained(tmp_path / "a")
    assert sorted(tables) == [4, 6]
    with pytest.raises(SystemExit):
        trained(tmp_path / "b", Stop(30))
    others, _ = trained(tmp_path / "b")
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)
