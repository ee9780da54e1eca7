"""`--devices`: what it refuses, and trainings on several devices that are those on one."""

import pytest
from on_jax import needs_jax, run_on_jax

from tfx_transformer import devices, flags
from tfx_transformer.devices import Devices
from tfx_transformer.errors import InputError


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "²", "ALL"])
def test_only_numbers_and_all_are_devices(text):
    with pytest.raises(InputError, match=r"Expected a number from 1, or all"):
        Devices(text)


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_several_devices_need_jax(monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert not Devices("1").several
    for text in ("2", "all"):
        with pytest.raises(InputError, match=f"it is on {backend}.\n  Set KERAS_BACKEND=jax"):
            Devices(text)


def test_jax_must_be_installed(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "tfx-transformer\[jax\]"'):
        Devices("2")


def test_backend_is_that_of_the_file_of_keras(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    file = tmp_path / "keras.json"
    assert devices.keras_backend() == "tensorflow"
    for text, expected in (
        ('{"backend": "jax"}', "jax"),
        ("{}", "tensorflow"),
        ("[]", "tensorflow"),
        ("{", "tensorflow"),
    ):
        file.write_text(text)
        assert devices.keras_backend() == expected


def test_as_many_devices_as_there_are(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert (Devices("1").number(8), Devices("7").number(8), Devices("all").number(5)) == (1, 7, 5)
    with pytest.raises(InputError, match=r"--devices is 9, and JAX finds 8.\n  Pass --devices 8"):
        Devices("9").number(8)


def test_recipes_take_the_flag(monkeypatch, capsys):
    def main(epochs: int = 3):
        """A recipe."""
        assert devices.in_use() == Devices("1")

    monkeypatch.setattr(flags, "hush", lambda: None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    for given, status, said in (
        (["--devices", "1"], 0, ""),
        ([], 0, ""),
        (["--devices", "8"], 2, "--devices 8 needs Keras on JAX"),
        (["--help"], 0, "--devices N|all"),
    ):
        with pytest.raises(SystemExit) as stop:
            flags.run(main, given)
        written = capsys.readouterr()
        assert stop.value.code == status and said in written.out + written.err


def losses_on(count, kind, folder):
    """Losses of 20 steps of packed texts and of the validation of 4 epochs, and an answer; batches
    of 16, and one of 3."""
    from pathlib import Path

    import keras
    import numpy as np
    from tiny_models import VARIANTS, tiny_causal

    import tfx_transformer as tfx
    from tfx_transformer.data.batches import BatchPlan, tf_dataset
    from tfx_transformer.training.checkpoints import Checkpoints
    from tfx_transformer.training.distribution import Division
    from tfx_transformer.training.fit import fit
    from tfx_transformer.training.optimizers import adamw

    devices.use(Devices(str(count)))
    tfx.training.set_random_seed(3)
    model = tiny_causal(0.3, seed=8, num_layers=1, **VARIANTS["llama"])
    if kind == "lora":
        tfx.add_adapters(model, 2, 4)
    random = np.random.default_rng(5)
    texts = random.integers(3, 23, (67, 8)).astype("int32")
    weights = (random.random((67, 7)) < 0.8).astype("float32")
    if kind == "a batch without a finite gradient":
        weights[5] = np.nan

    def batch(rows):
        inputs = {
            "token_ids": texts[rows, :-1],
            "positions": np.tile([0, 1, 2, 0, 1, 2, 3], (len(rows), 1)).astype("int32"),
            "segment_ids": np.tile([1, 1, 1, 2, 2, 2, 2], (len(rows), 1)).astype("int32"),
        }
        return inputs, texts[rows, 1:], weights[rows]

    batches = tf_dataset(BatchPlan(np.full(67, 7), 16, seed=1), batch)
    checks = tf_dataset(BatchPlan(np.full(67, 7), 16, shuffle=False), batch)
    tfx.training.accumulate(model, 2 if kind == "in parts" else 1)
    model.compile(adamw(3e-4, 3, average=0.9))
    steps, read, whole = [], [], Division.training

    def counted(division, batches):
        for batch in whole(division, batches):
            read.append(np.asarray(batch[1]))
            yield batch

    Division.training = counted
    each = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda index, logs: steps.append(float(logs["loss"]))
    )
    store = Checkpoints(Path(folder, f"{kind} {count}"))
    fit(model, batches, checks, 4, [each], steps=5, checkpoints=store)
    Division.training = whole
    for epoch in range(4):  # each text is read once
        labels = np.concatenate(read[5 * epoch : 5 * epoch + 5])
        assert sorted(labels.tolist()) == sorted(texts[:, 1:].tolist())
    value = model.trainable_variables[0].value
    assert len(value.sharding.device_set) == count
    return (
        np.array(steps),
        np.array(model.history.history["val_loss"]),
        model.predict(batch([0])[0]),
    )


@needs_jax
@pytest.mark.slow(but=["packed"])
@pytest.mark.parametrize(
    "kind", ["packed", "lora", "in parts", "a batch without a finite gradient"]
)
def test_losses_are_those_of_one_device(tmp_path, kind):
    run_on_jax(
        """
        import sys
        import numpy as np
        from test_devices import losses_on

        kind, folder = sys.argv[1:]
        one = losses_on(1, kind, folder)
        assert len(one[0]) == 20 and np.isfinite(one[0]).all()
        for count in (2, 8):
            for found, expected in zip(losses_on(count, kind, folder), one, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        """,
        kind,
        str(tmp_path),
        devices=8,
    )


@needs_jax
@pytest.mark.slow(but=["classifier"])
@pytest.mark.parametrize("kind", ["causal", "seq2seq", "classifier", "images"])
def test_interrupted_training_goes_on_on_the_same_and_on_other_devices(tmp_path, kind):
    run_on_jax(
        """
        import contextlib
        import io
        import sys
        from pathlib import Path
        import keras
        import numpy as np
        import small_runs
        from small_runs import train
        from tfx_transformer import devices

        small_runs.EPOCHS = 2

        class Dies(keras.callbacks.Callback):
            left = 5  # two epochs of images have fewer than 9 steps

            def on_train_batch_end(self, batch, logs=None):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt

        def interrupted(name):
            try:
                train(kind, folder / name, [Dies()], save_minutes=0.0)
                raise AssertionError("it was not interrupted")
            except KeyboardInterrupt:
                pass

        kind, folder = sys.argv[1], Path(sys.argv[2])
        for name in "abcd":
            (folder / name).mkdir()
        one = train(kind, folder / "d", save_minutes=0.0)["history"]
        devices.use(devices.Devices("8"))
        straight = train(kind, folder / "a", save_minutes=0.0)
        for name in ("loss", "val_loss"):
            np.testing.assert_allclose(straight["history"][name][0], one[name][0], rtol=1e-5)
        interrupted("b")
        assert train(kind, folder / "b", save_minutes=0.0) == straight
        interrupted("c")
        devices.use(devices.Devices("4"))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            other = train(kind, folder / "c", save_minutes=0.0)["history"]
        assert "It was on 8 devices and is now on 4" in said.getvalue()
        np.testing.assert_allclose(other["loss"][1], straight["history"]["loss"][1], rtol=1e-4)
        """,
        kind,
        str(tmp_path),
        devices=8,
    )
