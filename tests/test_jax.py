"""The same layers and model on another Keras backend, in a process of their own."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from on_jax import needs_jax, run_on_jax
from tiny_models import VARIANTS, tiny_causal, tiny_model

from benchmarks.recipe_steps import CASES, first_losses, write_tables
from tfx_transformer import InputError
from tfx_transformer.data.batches import BatchPlan, tf_dataset
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.models.decoding import KerasEngine
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.fit import check_backend, fit
from tfx_transformer.training.optimizers import adamw

pytestmark = needs_jax

# Every class of layer once; each of JAX's operations is compiled when it is first met.
LAYERS = "sinusoidal learned gated grouped_attention decoder_block llama_block embedding"
TESTS = Path(__file__).parent
SOURCE = np.random.default_rng(0).integers(3, 23, (3, 7)).astype("int32")


def test_layers_build_run_and_train(tmp_path):
    run_on_jax(
        """
        import sys
        from pathlib import Path
        from layer_harness import CASES, run_layer_test
        for name in sys.argv[2:]:
            run_layer_test(*CASES[name], Path(sys.argv[1]))
        """,
        str(tmp_path),
        *LAYERS.split(),
    )


def test_model_answers_as_on_tensorflow_and_trains(tmp_path):
    model = tiny_model(0.3, seed=8, num_layers=1, **VARIANTS["llama"])
    inputs = {"encoder_token_ids": SOURCE, "decoder_token_ids": SOURCE[:, :5]}
    weights = {str(i): np.asarray(weight) for i, weight in enumerate(model.weights)}
    np.savez(tmp_path / "weights.npz", **weights)
    written = {}
    for beams in (1, 3):
        options = GenerationOptions(max_new_tokens=6, beams=beams)
        written[f"beams_{beams}"] = KerasEngine(model).generate_ids(SOURCE.tolist(), options)
    np.savez(tmp_path / "expected.npz", logits=model(inputs), **written)
    run_on_jax(
        """
        import sys
        import numpy as np
        from test_jax import SOURCE
        from tiny_models import VARIANTS, tiny_config
        from tfx_transformer.generation.options import GenerationOptions
        from tfx_transformer.models.decoding import KerasEngine
        from tfx_transformer.models.tasks import Seq2SeqLM
        from tfx_transformer.training.optimizers import adamw

        folder = sys.argv[1]
        model = Seq2SeqLM(tiny_config(num_layers=1, **VARIANTS["llama"]))
        model.set_weights([*np.load(folder + "/weights.npz").values()])
        expected = np.load(folder + "/expected.npz")
        inputs = {"encoder_token_ids": SOURCE, "decoder_token_ids": SOURCE[:, :5]}
        np.testing.assert_allclose(model(inputs), expected["logits"], atol=1e-5)
        for beams in (1, 3):
            options = GenerationOptions(max_new_tokens=6, beams=beams)
            written = KerasEngine(model).generate_ids(SOURCE.tolist(), options)
            np.testing.assert_array_equal(written, expected[f"beams_{beams}"])

        model.compile(adamw(1e-2))
        labels = SOURCE[:, 1:6]
        losses = [
            model.train_on_batch(inputs, labels, sample_weight=np.ones_like(labels, "float32"))[0]
            for _ in range(5)
        ]
        assert losses[-1] < losses[0], losses
        """,
        str(tmp_path),
    )


def test_every_iteration_of_augmented_images_begins_at_its_step():
    run_on_jax(
        """
        import numpy as np
        import tfx_transformer as tfx

        files = tfx.data.read_labelled_images(tfx.resources.dataset_path("images/train"))
        train = files.take(range(0, len(files), 37))
        names = tfx.data.label_names(train.labels, train.path)
        batches = tfx.data.labelled_images(train, names, image_size=16, batch_size=3)
        batches = tfx.training.augment_images(batches, 16, seed=1)

        def first(batches):
            return next(batches.take(1).as_numpy_iterator())[0]["images"]

        later = batches.from_step(2)
        np.testing.assert_array_equal(first(later), first(later))
        assert not np.array_equal(first(batches), first(batches)), "epochs differ"
        """
    )


def test_decoder_only_model_answers_as_on_tensorflow_and_trains_packed(tmp_path):
    model = tiny_causal(0.3, seed=8, num_layers=1, **VARIANTS["llama"])
    weights = {str(i): np.asarray(weight) for i, weight in enumerate(model.weights)}
    np.savez(tmp_path / "weights.npz", **weights)
    prompts = [SOURCE[0].tolist(), SOURCE[1, :3].tolist()]
    written = KerasEngine(model).generate_ids(prompts, GenerationOptions(max_new_tokens=6))
    np.savez(tmp_path / "expected.npz", logits=model({"token_ids": SOURCE}), written=written)
    run_on_jax(
        """
        import sys
        import numpy as np
        from test_jax import SOURCE, batches_of_a_causal_model
        from tiny_models import VARIANTS, tiny_config
        from tfx_transformer.generation.options import GenerationOptions
        from tfx_transformer.models.decoding import KerasEngine
        from tfx_transformer.models.tasks import CausalLM
        from tfx_transformer.training.optimizers import adamw

        folder = sys.argv[1]
        model = CausalLM(tiny_config(num_layers=1, **VARIANTS["llama"]))
        model.set_weights([*np.load(folder + "/weights.npz").values()])
        expected = np.load(folder + "/expected.npz")
        np.testing.assert_allclose(model({"token_ids": SOURCE}), expected["logits"], atol=1e-5)
        prompts = [SOURCE[0].tolist(), SOURCE[1, :3].tolist()]
        written = KerasEngine(model).generate_ids(prompts, GenerationOptions(max_new_tokens=6))
        np.testing.assert_array_equal(written, expected["written"])

        model.compile(adamw(1e-2))
        inputs = {
            "token_ids": SOURCE,
            "positions": np.tile([0, 1, 2, 0, 1, 2, 3], (3, 1)).astype("int32"),
            "segment_ids": np.tile([1, 1, 1, 2, 2, 2, 2], (3, 1)).astype("int32"),
        }
        labels = np.roll(SOURCE, -1, axis=1)
        losses = [
            model.train_on_batch(inputs, labels, sample_weight=np.ones_like(labels, "float32"))[0]
            for _ in range(5)
        ]
        assert losses[-1] < losses[0], losses

        batches = batches_of_a_causal_model()
        model.compile(adamw(1e-2))
        model.fit(batches, verbose=0)
        for (_, labels, _), rows in zip(batches, batches.plan.order(1), strict=True):
            np.testing.assert_array_equal(labels, batches.batch(rows)[1])
        """,
        str(tmp_path),
    )


def batches_of_a_causal_model(wrong=()):
    """A source of batches of 3 texts of 7 tokens; those of steps in `wrong` weigh NaN."""
    random = np.random.default_rng(5)
    texts = random.integers(3, 23, (15, 8)).astype("int32")
    weights = np.ones((15, 7), "float32")
    weights[list(wrong)] = np.nan

    def batch(indices):
        rows = texts[indices]
        return {"token_ids": rows[:, :-1]}, rows[:, 1:], weights[indices]

    return tf_dataset(BatchPlan(np.full(15, 7), 3, shuffle=True, seed=1), batch)


def losses_of_fit(model, folder, wrong=()):
    """Losses of four epochs of five steps, and the number of steps that were applied."""
    batches, history = batches_of_a_causal_model(wrong), []
    model.compile(adamw(3e-4, 3, average=0.9))
    each = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: history.append(float(logs["loss"]))
    )
    store = Checkpoints(folder)
    fit(model, batches, batches_of_a_causal_model(), 4, [each], steps=5, checkpoints=store)
    return np.array(history), int(model.optimizer.iterations)


@pytest.mark.parametrize("wrong", [(), (4,)], ids=["", "a batch without a finite gradient"])
def test_losses_are_those_of_tensorflow(tmp_path, wrong):
    model = tiny_causal(0.3, seed=8, num_layers=1, **VARIANTS["llama"])
    weights = {str(i): np.asarray(weight) for i, weight in enumerate(model.weights)}
    np.savez(tmp_path / "weights.npz", **weights)
    losses, applied = losses_of_fit(model, tmp_path / "tensorflow", wrong)
    assert applied == (16 if wrong else 20) and np.isfinite(losses).all()
    np.savez(tmp_path / "expected.npz", losses=losses, applied=applied)
    run_on_jax(
        """
        import sys
        from pathlib import Path
        import numpy as np
        from test_jax import losses_of_fit
        from tiny_models import VARIANTS, tiny_causal

        folder, wrong = Path(sys.argv[1]), tuple(map(int, sys.argv[2:]))
        model = tiny_causal(0.3, seed=8, num_layers=1, **VARIANTS["llama"])
        model.set_weights([*np.load(folder / "weights.npz").values()])
        losses, applied = losses_of_fit(model, folder / "jax", wrong)
        expected = np.load(folder / "expected.npz")
        assert applied == expected["applied"]
        np.testing.assert_allclose(losses, expected["losses"], rtol=1e-4)
        """,
        str(tmp_path),
        *map(str, wrong),
    )


def check_mixed_bfloat16():
    """Assert that mixed_bfloat16 computes in 2 bytes, and changes weights by less than 2 bytes can
    hold: next to 1, bfloat16 has numbers that are 2^-8 apart."""
    model = tiny_causal(0.0, num_layers=1, dtype="mixed_bfloat16", **VARIANTS["llama"])
    model.compile(adamw(1e-4, average=0.9))
    norms = [v for v in model.trainable_weights if (np.asarray(v.value) == 1).all()]
    inputs, labels = {"token_ids": SOURCE[:, :-1]}, SOURCE[:, 1:]
    assert keras.backend.standardize_dtype(model(inputs).dtype) == "bfloat16"
    for _ in range(3):
        model.train_on_batch(inputs, labels, sample_weight=np.ones_like(labels, "float32"))
    floats = [v for v in [*model.weights, *model.optimizer.variables] if "int" not in v.dtype]
    assert {v.dtype for v in floats} == {"float32"}
    assert len(norms) == 3
    for norm in norms:
        change = np.abs(np.asarray(norm.value) - 1)
        assert change.max() < 2**-9 and np.median(change) > 1e-4


def test_mixed_bfloat16_trains_weights_of_4_bytes():
    check_mixed_bfloat16()


@pytest.mark.slow
def test_mixed_bfloat16_trains_weights_of_4_bytes_on_jax():
    run_on_jax("from test_jax import check_mixed_bfloat16\ncheck_mixed_bfloat16()")


def test_pytorch_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(InputError, match=r"Keras is on torch.*\n  Set KERAS_BACKEND=tensorflow or"):
        check_backend()


@pytest.mark.slow
def test_a_step_holds_the_gradient_once_and_with_remat_the_inside_of_one_layer():
    """XLA updates weights and moments in their places, and holds the gradient besides, but for the
    activations: of 8 more layers only their inputs, (4, 512, 64) in float32, and gradients."""
    run_on_jax(
        """
        from benchmarks.compiled_step import held_by_step
        from tiny_models import tiny_config
        from tfx_transformer.models.tasks import CausalLM

        sizes = {"num_layers": 1, "vocabulary_size": 3_000, "hidden_dim": 96}
        config = tiny_config(**sizes)
        held = held_by_step(lambda: CausalLM(config), 1, 2)
        assert held.besides < 1.1 * held.state / 3

        sizes = {"num_heads": 4, "hidden_dim": 64, "max_sequence_length": 512}
        found = []
        for layers in (2, 10):
            config = tiny_config(num_layers=layers, intermediate_dim=128, **sizes)
            found.append(held_by_step(lambda: CausalLM(config), 4, 512, remat=True))
        gradients = (found[1].state - found[0].state) / 3
        inputs = 8 * 4 * 512 * 64 * 4
        assert found[1].besides - found[0].besides < 4 * (gradients + inputs), found
        """
    )


@pytest.mark.slow(but=["classifier"])
@pytest.mark.parametrize("kind", ["causal", "seq2seq", "classifier", "images"])
def test_interrupted_trainings_end_as_others_do(tmp_path, kind):
    run_on_jax(
        """
        import sys
        from pathlib import Path
        import keras
        from small_runs import train

        class Dies(keras.callbacks.Callback):
            left = 9

            def on_train_batch_end(self, batch, logs=None):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt

        kind, folder = sys.argv[1], Path(sys.argv[2])
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        straight = train(kind, folder / "a", save_minutes=0.0)
        try:
            train(kind, folder / "b", [Dies()], save_minutes=0.0)
            raise AssertionError("it was not interrupted")
        except KeyboardInterrupt:
            pass
        assert train(kind, folder / "b", save_minutes=0.0) == straight
        """,
        kind,
        str(tmp_path),
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_recipes_have_the_losses_of_tensorflow(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    write_tables(tmp_path)
    expected = first_losses(case, tmp_path / "weights.npz")
    (tmp_path / "expected.json").write_text(json.dumps(expected), "utf-8")
    run_on_jax(
        """
        import json, os, sys
        from pathlib import Path
        import numpy as np
        from benchmarks.recipe_steps import first_losses

        os.chdir(sys.argv[2])
        losses = first_losses(sys.argv[1], Path("weights.npz").absolute(), name="again")
        expected = json.loads(Path("expected.json").read_text("utf-8"))
        np.testing.assert_allclose(losses, expected, rtol=1e-4)
        """,
        case,
        str(tmp_path),
    )
