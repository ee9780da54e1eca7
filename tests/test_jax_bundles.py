"""Bundles of runs on JAX: interrupted, resumed, exported by TensorFlow, and answering alike."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from on_jax import needs_jax, run_on_jax

from benchmarks.recipe_steps import CASES, write_tables
from tfx_transformer import cli
from tfx_transformer.models.base import TransformerModel
from tfx_transformer.models.saving import load

# Few steps, but more than `KILLED` of them.
SHORT = {"epochs": 1, "average": 0.9}
OTHERS = {
    "pretraining": {"steps": 20, "validate_every": 20},
    "masked": {"steps": 20, "validate_every": 20},
    "few rows": {"epochs": 6},
    "tools": {"epochs": 4, "copies": 0},
}
KILLED = 9


class Terminate(keras.callbacks.Callback):
    """Sends SIGTERM to this process after `KILLED` steps."""

    def __init__(self) -> None:
        super().__init__()
        self.left = KILLED

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


def run_twice(case: str) -> dict:
    """Run a recipe until SIGTERM ends it, and again to its end; return its result."""
    recipe, settings = CASES[case]
    main = cli.recipe_main(recipe)
    known = inspect.signature(main).parameters
    short = {name: value for name, value in SHORT.items() if name in known}
    settings = {**settings, **short, **OTHERS.get(case, {}), "seed": 1, "name": "mine"}
    fit = TransformerModel.fit

    def interrupted(model, *arguments, **options):
        # Before the callback that handles signals, which is the last one.
        options["callbacks"] = [Terminate(), *options["callbacks"]]
        return fit(model, *arguments, **options)

    with mock.patch.object(TransformerModel, "fit", interrupted):
        try:
            main(**settings)
            raise AssertionError("it was not interrupted")
        except SystemExit as ended:
            assert ended.code == 143
    return main(**settings)


def answers(bundle: Path) -> np.ndarray:
    """Return what the model of a bundle answers to random inputs."""
    model, _ = load(bundle)
    random, config = np.random.default_rng(3), model.config
    if config.image_size:
        side = config.image_size
        inputs = {"images": 255 * random.random((3, side, side, 3)).astype("float32")}
    else:
        ids = random.integers(5, config.vocabulary_size, (3, 7)).astype("int32")
        inputs = dict.fromkeys(model.reads, ids)
        if "masked_positions" in inputs:
            inputs["masked_positions"] = np.tile(np.arange(7, dtype="int32"), (3, 1))
    return np.asarray(keras.ops.convert_to_numpy(model(inputs)))


def run_and_answer() -> None:
    """The program on JAX: the case is the first argument."""
    result = run_twice(sys.argv[1])
    exported = sys.argv[1] != "masked"  # a base is fine-tuned before it is exported
    assert bool(result["verified"]) == exported, "TensorFlow compares the files with the model"
    np.save("answers.npy", answers(Path("saved_models/mine")))
    Path("verified.json").write_text(json.dumps(result["verified"], default=str), "utf-8")


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bundles_of_runs_on_jax_answer_alike(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    write_tables(tmp_path)
    run_on_jax("from test_jax_bundles import run_and_answer\nrun_and_answer()", case)
    expected = np.load("answers.npy")
    assert np.isfinite(expected).all() and expected.std() > 1e-3
    np.testing.assert_allclose(answers(tmp_path / "saved_models/mine"), expected, atol=1e-5)
