"""Blocks that are computed again for the gradient: the same training in less memory."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from on_jax import needs_jax, run_on_jax
from tiny_models import VARIANTS, tiny_causal, tiny_model

RANDOM = np.random.default_rng(3)
TEXTS = RANDOM.integers(3, 23, (3, 6)).astype("int32")


def case(kind):
    """A model with dropout, and the names of its inputs."""
    if kind == "llama":  # grouped heads
        model = tiny_causal(0.3, seed=8, num_layers=1, dropout=0.3, **VARIANTS["llama"])
        return model, ("token_ids",)
    # A bias of the scores that is trained, and a memory with padding.
    model = tiny_model(0.3, seed=8, num_layers=1, dropout=0.3, position="relative")
    return model, ("encoder_token_ids", "decoder_token_ids")


def two_steps(model, names, remat):
    """Return the logs of two steps, and all weights and states of generators after them."""
    keras.utils.set_random_seed(4)
    first = [keras.ops.copy(variable.value) for variable in model.variables]
    model.remat = remat
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    texts = TEXTS.copy()
    texts[1, 4:] = 0
    inputs = {name: texts[:, :-1] for name in names}
    logs = [model.train_on_batch(inputs, TEXTS[:, 1:]) for _ in range(2)]
    found = [np.asarray(variable.value) for variable in model.variables]
    for variable, value in zip(model.variables, first, strict=True):
        variable.assign(value)
    return logs, found


def check(kind):
    """Assert that training is the same, dropout included."""
    model, names = case(kind)
    assert not model.remat
    paths = [weight.path for weight in model.weights]
    logs, weights = two_steps(model, names, False)
    found, theirs = two_steps(model, names, True)
    assert model.remat and paths == [weight.path for weight in model.weights]
    np.testing.assert_allclose(found, logs, rtol=1e-6)
    for one, other, variable in zip(theirs, weights, model.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=variable.path)


@pytest.mark.slow(but=["llama"])
@pytest.mark.parametrize("kind", ["translator", "llama"])
def test_training_is_the_same(kind):
    check(kind)


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["translator", "llama"])
def test_training_is_the_same_on_jax(kind):
    run_on_jax("import sys\nfrom test_remat import check\ncheck(sys.argv[1])", kind)


@needs_jax
@pytest.mark.slow
def test_memory_holds_the_inside_of_one_block():
    run_on_jax(
        """
        import jax
        import numpy as np
        from tiny_models import tiny_causal

        model = tiny_causal(num_layers=8, max_sequence_length=64, dropout=0.1)
        ids = jax.ShapeDtypeStruct((4, 64), "int32")
        values = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]

        def needed(remat):
            model.remat = remat
            model.compile("sgd")
            model.optimizer.build(model.trainable_variables)
            state = [variable.value for variable in model.optimizer.variables]

            def step(values, ids):
                run = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
                inputs = {"token_ids": ids}
                return run(values, others, [], inputs, ids, None, True, state)[1]

            compiled = jax.jit(step).lower(values, ids).compile()
            return compiled.memory_analysis().temp_size_in_bytes

        # The scores of a block: heads, texts, queries, keys, in float32.
        scores = 4 * 6 * 4 * 64 * 64
        assert needed(False) > 8 * scores
        assert needed(True) < 5 * scores
        """
    )
