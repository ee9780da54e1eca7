"""The same layers and model on another Keras backend, in a process of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from on_jax import needs_jax, run_on_jax
from tiny_models import VARIANTS, tiny_causal, tiny_model

from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.models.decoding import KerasEngine

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
        from test_jax import SOURCE
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
        """,
        str(tmp_path),
    )
