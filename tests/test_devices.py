"""`--devices`: what it refuses, and trainings on several devices that are those on one."""

import importlib.util
import math

import numpy as np
import pytest
from on_jax import needs_jax, run_on_jax

from tfx_transformer import devices, flags
from tfx_transformer.devices import Devices
from tfx_transformer.errors import InputError
from tfx_transformer.layers import attention
from tfx_transformer.models import token_scores
from tfx_transformer.training import fit

needs_orbax = pytest.mark.skipif(
    importlib.util.find_spec("orbax") is None, reason="Orbax is not installed"
)


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


@pytest.mark.parametrize(("given", "parts"), [("1", 2), ("8", 0), ("8", -4)])
def test_weights_are_divided_among_some_of_the_devices(monkeypatch, given, parts):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(InputError, match=f"--model-parallel is {parts}, and --devices is {given}"):
        Devices(given, parts)


def test_as_many_devices_as_there_are(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert Devices("8", 4).number(8) == Devices("all", 2).number(8) == 8
    for text in ("6", "all"):
        with pytest.raises(InputError, match="--model-parallel 4 does not divide 6 devices"):
            Devices(text, 4).number(6)
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


def test_chunks_and_blocks_are_counted_for_what_a_device_computes(monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setattr(token_scores, "CHUNK", 3 * 7 * 11)
    monkeypatch.setattr(attention, "BLOCK", 3 * 5 * 7 * 7)
    for parts, rows, own in ((1, 12, 12), (4, 12, 3), (4, 13, 13)):  # 4 do not divide 13
        heads = np.empty((rows, 5, 7, 2))
        with devices.dividing(parts):
            assert token_scores.own_tokens((rows, 7)) == own * 7
            chunks = token_scores.count_chunks(own * 7, 11)
            assert chunks == attention.count_blocks(heads, heads) == math.ceil(own / 3)
    assert devices.own_rows(12) == 12


def test_a_run_that_goes_on_on_other_devices_says_so(capsys):
    divided = {"devices": 8, "hosts": 2, "weight_parts": 4}
    for before, now, said in (
        ({}, {"devices": 1, "hosts": 1, "weight_parts": 1}, ""),
        (divided, divided, ""),
        (divided, {}, "on 8 devices of 2 hosts (weights in 4 parts) and is now on 1 device: each"),
        (
            {"devices": 8},
            {"devices": 8, "weight_parts": 2},
            "now on 8 devices (weights in 2 parts):",
        ),
    ):
        fit._report_devices(before, now)
        printed = capsys.readouterr().out
        assert said in printed and bool(said) == bool(printed)


@needs_jax
@pytest.mark.slow(but=["packed"])
@pytest.mark.parametrize(
    "kind",
    [
        "packed",
        "lora",
        "lora in 4 bits",
        "images",
        "in parts",
        "in chunks",
        "a batch without a finite gradient",
    ],
)
def test_losses_are_those_of_one_device(tmp_path, kind):
    run_on_jax(
        """
        import sys
        from pathlib import Path
        import numpy as np
        from divided_runs import train
        from tfx_transformer import devices

        kind, folder = sys.argv[1:]

        # What 4 devices divide; 13 hidden units they do not.
        divided = {
            f"block_0/attention/{name}/{part}"
            for name in ("query", "key", "value", "output_projection")
            for part in ("kernel",) + ("bias",) * (kind == "images" and name[0] != "o")
        }
        divided |= set() if kind == "images" else {"embeddings", "reverse_embeddings"}
        if kind == "lora in 4 bits":  # whose kernels are padded to whole blocks of 64
            divided |= {f"block_0/feed_forward/{x}/kernel" for x in ("expand", "gate", "contract")}

        def train_on(count, parts=1):
            devices.use(devices.Devices(str(count), parts))
            found = train(kind, Path(folder, f"{count} {parts}"))
            assert found["devices"] == count
            ends = {path.partition("/")[2] for path in found["divided"] if "adam_w" not in path}
            assert ends == (divided if parts > 1 else set()), found["divided"]
            assert set(found["divided"].values()) <= {1 / parts}
            # Beside a trained weight both of its moments and its moving average.
            assert len(found["divided"]) == (1 if "lora" in kind else 4) * len(ends)
            for epoch in range(4):  # each example is read once
                labels = sum(found["read"][5 * epoch : 5 * epoch + 5], [])
                assert sorted(labels) == sorted(found["labels"])
            return found

        one = train_on(1)
        assert len(one["losses"]) == 20 and np.isfinite(one["losses"]).all()
        for count, parts in ((2, 1), (8, 1), (8, 4)):
            found = train_on(count, parts)
            for name in ("losses", "validation", "answer"):
                np.testing.assert_allclose(found[name], one[name], rtol=1e-5, atol=1e-5)
        """,
        kind,
        str(tmp_path),
        devices=8,
    )


@needs_jax
@needs_orbax
@pytest.mark.slow
def test_arrays_are_written_in_groups_and_read_with_any_division(tmp_path):
    run_on_jax(
        """
        import logging
        import sys
        from pathlib import Path
        import jax
        import keras
        import numpy as np
        import pytest
        from tfx_transformer import InputError
        from tfx_transformer.training import shards

        mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("batch", "model"))

        def place(value, *axes):
            spec = jax.sharding.PartitionSpec(*axes)
            return jax.device_put(value, jax.sharding.NamedSharding(mesh, spec))

        random = np.random.default_rng(7)
        values = {
            f"model/{i}": random.random((8 * i, 12), dtype="float32") for i in range(1, 6)
        }
        folder, said = Path(sys.argv[1], "divided"), []
        handler = logging.Handler()
        handler.emit = said.append
        logging.getLogger().addHandler(handler)
        shards._AT_ONCE = 4 * 12 * (8 + 16)  # the first two; the last two are larger
        shards.write(folder, {name: place(value, "model") for name, value in values.items()})
        assert not [record.getMessage() for record in said if record.name == "absl"]
        assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2", "3"]
        assert shards.shapes(folder) == {name: value.shape for name, value in values.items()}
        whole = shards.gather(folder)
        for axes in (("model",), (None, "model"), ("batch", "model"), ()):
            variables = {name: keras.Variable(0 * value) for name, value in values.items()}
            for name, variable in variables.items():
                variable.assign(place(0 * values[name], *axes))
            read = {variable.path: value for variable, value in shards.read(folder, variables)}
            for name, variable in variables.items():
                found = read.pop(variable.path)
                assert found.sharding == variable.value.sharding
                np.testing.assert_array_equal(found, values[name])
                np.testing.assert_array_equal(whole[name], values[name])
            assert not read
        for manifest in (folder / "2").rglob("manifest.ocdbt"):
            manifest.write_bytes(b"damaged")
        with pytest.raises(InputError, match="divided cannot be read: "):
            shards.gather(folder)
        """,
        str(tmp_path),
        devices=8,
    )


@needs_jax
@needs_orbax
@pytest.mark.slow
def test_divided_weights_are_written_and_read_in_parts(tmp_path):
    """A process is killed while it writes; the run goes on with the same and other parts."""
    run_on_jax(
        """
        import os
        import shutil
        import sys
        from pathlib import Path
        import numpy as np
        import safetensors.numpy
        from divided_runs import on_hosts, train
        from tfx_transformer.training import shards

        written = shards.write

        def killed(place, arrays):
            written(place, arrays)
            if place.parent.name.startswith(".step_8"):
                os.kill(os.getpid(), 9)

        def whole(folder, hosts=1, devices=8, parts=4):
            def work(index):
                return train("packed", folder)

            ended = on_hosts(work, hosts, devices, parts)
            assert [one.status for one in ended] == [0] * hosts, ended
            return ended[0]

        def interrupted(index):
            shards.write = killed
            train("packed", dead, save_minutes=1e-9)

        straight = whole(Path(sys.argv[1], "straight")).result
        dead = Path(sys.argv[1], "dead")
        (ended,) = on_hosts(interrupted, 1, 8, 4)
        assert ended.status == -9, ended
        assert sorted(path.name for path in dead.glob("step_*")) == ["step_6", "step_7"]
        assert (dead / "step_7/divided/0/manifest.ocdbt").is_file()
        arrays = safetensors.numpy.load_file(dead / "step_7/arrays.safetensors")
        assert "model/0" not in arrays and "metrics/0" in arrays  # the embedding is divided
        for name, place, said in (
            ("same", (1, 8, 4), ""),
            ("other", (1, 8, 2), "on 8 devices (weights in 4 parts) and is now on 8 devices"),
            ("whole", (1, 1, 1), "8 devices (weights in 4 parts) and is now on 1 device: each"),
            ("on hosts", (2, 4, 2), "and is now on 8 devices of 2 hosts (weights in 2 parts): "),
        ):
            again = whole(shutil.copytree(dead, Path(sys.argv[1], name)), *place)
            assert said in again.output, again.output
            if name == "same":
                assert again.result["weights"] == straight["weights"]
                assert again.result["validation"] == straight["validation"]
            else:
                np.testing.assert_allclose(
                    again.result["validation"], straight["validation"], rtol=1e-5
                )
        """,
        str(tmp_path),
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
