"""Trainings that were interrupted end as if they had not been, and damage never goes unseen."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from slow import ALL_TESTS

from tfx_transformer import resources, training
from tfx_transformer.data.batches import BatchPlan, tf_dataset
from tfx_transformer.data.labelled_image import labelled_images, read_labelled_images
from tfx_transformer.errors import InputError
from tfx_transformer.training import Run
from tfx_transformer.training.checkpoints import KEPT, Checkpoints
from tfx_transformer.training.fit import fit
from tfx_transformer.training.folder import LOCK

FILES = ("arrays.safetensors", "config.json", "SHA256SUMS")


def saved(folder, steps=(3, 7, 11)) -> Checkpoints:
    """Checkpoints of some steps, which tell their step."""
    store = Checkpoints(folder)
    for step in steps:
        store.save(step, {"x": np.full(1000, step)}, {"step": step, "settings": {}})
    return store


# Files


def test_the_last_ones_are_kept(tmp_path):
    store = saved(tmp_path)
    assert store.steps() == [7, 11] and KEPT == 2
    assert sorted(os.listdir(tmp_path)) == ["step_11", "step_7"]
    found = store.load_newest()
    assert found.state["step"] == 11 and (found.arrays["x"] == 11).all()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\n.")


def link(file: Path) -> None:
    other = file.rename(file.parents[2] / "elsewhere")
    file.symlink_to(other)


DAMAGE = [truncate, empty, flip, lengthen, Path.unlink, link]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_one_is_named_and_the_one_before_taken(tmp_path, capsys, name, damage):
    store = saved(tmp_path / "checkpoints")
    damage(store.path(11) / name)
    assert store.load_newest().state["step"] == 7
    told = capsys.readouterr().out
    assert "damaged" in told and "step_11" in told
    assert name in told or name == "SHA256SUMS", "a wrong sum is told of the file that has it"
    assert store.steps() == [7], "so that its place is free"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE[:5], ids=lambda damage: damage.__name__)
def test_if_none_is_whole_training_stops_and_names_them(tmp_path, name, damage):
    store = saved(tmp_path)
    for step in store.steps():
        damage(store.path(step) / name)
    with pytest.raises(InputError, match=r"step_11[\s\S]*step_7[\s\S]*--overwrite"):
        store.load_newest()
    assert store.steps() == [7, 11], "nothing is removed"


def test_what_was_being_written_or_removed_is_cleared_away(tmp_path):
    saved(tmp_path)
    for name in (".step_15-x1", ".step_3-old"):
        shutil.copytree(tmp_path / "step_7", tmp_path / name)
    store = Checkpoints(tmp_path)
    store.tidy()
    assert store.steps() == [7, 11]
    assert sorted(os.listdir(tmp_path)) == ["step_11", "step_7"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_where_nothing_can_be_written_the_old_ones_stay(tmp_path, monkeypatch, code):
    store = saved(tmp_path)

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(safetensors.numpy, "save_file", refuse)
    with pytest.raises(InputError, match=os.strerror(code)):
        store.save(15, {}, {})
    assert sorted(os.listdir(tmp_path)) == ["step_11", "step_7"], "and nothing half-written"
    assert store.load_newest().state["step"] == 11


def test_a_file_that_may_not_grow(tmp_path):
    """What a full disk does, by a limit of the system's: safetensors writes from Rust."""
    store, before = Checkpoints(tmp_path / "c"), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(InputError, match="could not be written: .*large"):
            store.save(1, {"x": np.ones(9999)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path / "c") == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KB, and a function that makes it read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("to mount a small disk takes root")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_full_or_read_only(small_disk):
    disk, lock_disk = small_disk
    store, arrays = Checkpoints(disk / "c"), {"x": np.ones(9_999)}
    store.save(3, arrays, {"step": 3, "settings": {}})
    with (disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while True:
            other.write(b"x" * 4096)
    with pytest.raises(InputError, match="could not be written: .*No space left on device"):
        store.save(7, arrays, {"step": 7, "settings": {}})
    (disk / "other").unlink()
    lock_disk()
    with pytest.raises(InputError, match="cannot be written: Read-only file system"):
        store.save(7, arrays, {"step": 7, "settings": {}})
    assert os.listdir(disk / "c") == ["step_3"] and store.load_newest().state["step"] == 3


# Folders


def test_a_run_of_other_settings_is_left_alone(tmp_path):
    saved(tmp_path / "r" / "checkpoints")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"--epochs was None and is 5[\s\S]*--overwrite"):
        Run("r", {"epochs": 5, "minutes": 3.0}, root=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert Run("r", {"minutes": 3.0, "name": "r"}, root=tmp_path).overwrite, "it goes on"
    replaced = Run("r", {"epochs": 5, "overwrite": True}, root=tmp_path)
    assert not replaced.checkpoints.steps()


def test_two_runs_at_once(tmp_path):
    (tmp_path / "r").mkdir()
    program = (  # the other's lock alone, which needs no TensorFlow
        "import sys, pathlib\n"
        "from tfx_transformer.files import Lock\n"
        "held = Lock(pathlib.Path(sys.argv[1])).hold()\n"
        "print('holds', flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "r" / LOCK],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "holds\n"
    with pytest.raises(InputError, match=f"process {other.pid}, is writing there"):
        Run("r", {}, root=tmp_path)
    other.kill()
    other.wait()
    run = Run("r", {}, root=tmp_path)
    assert run.close({"a": 1}) == {"a": 1} and not (tmp_path / "r" / "lock").exists()


def test_a_folder_where_nothing_may_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot be written"):
        Run("r", {}, root=tmp_path / "file")


# Batches


def test_batches_go_on_from_any_step():
    plan = BatchPlan(np.arange(11), 3, seed=5)
    source = tf_dataset(plan, lambda indices: (indices,))
    straight = [*plan.order(0), *plan.order(1), *plan.order(2)]
    for step in (0, 1, 3, 4, 6, 8):
        rest = [x[0].numpy() for x in source.from_step(step).take(12 - step)]
        assert len(rest) == 12 - step
        assert all(map(np.array_equal, rest, straight[step:]))
        assert np.array_equal(source.examples(step), straight[step])


def test_augmented_batches_go_on_from_any_step():
    examples = read_labelled_images(resources.dataset_path("images/train")).take(range(13))
    names = sorted(set(label for (label,) in examples.labels))
    batches = labelled_images(examples, names, image_size=8, batch_size=3, seed=2)
    source = training.augment_images(batches, 8, seed=3)

    def images(step, count):
        return [x["images"].numpy() for x, *_ in source.from_step(step).take(count)]

    straight = images(0, 9)
    for step in (1, 7) if ALL_TESTS else (7,):
        assert all(map(np.array_equal, images(step, 9 - step), straight[step:]))
    assert not np.array_equal(straight[0], straight[5]), "every epoch is new"


# Trainings


class Dies(keras.callbacks.Callback):
    """An error after some steps of this process."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_the_same_seed_makes_the_same_weights_and_so_does_an_interrupted_run(
    tmp_path, capsys, monkeypatch
):
    import small_runs

    train = small_runs.train
    monkeypatch.setattr(small_runs, "EPOCHS", 3)
    (tmp_path / "a").mkdir()
    straight = train("causal", tmp_path / "a", save_minutes=0.0)
    assert not (tmp_path / "a" / "run" / "checkpoints").exists(), "no longer needed"
    (tmp_path / "b").mkdir()
    for steps in (33, 9):
        with pytest.raises(KeyboardInterrupt):
            train("causal", tmp_path / "b", [Dies(steps)], save_minutes=0.0)
    state = json.loads((tmp_path / "b/run/checkpoints/step_20/config.json").read_text("utf-8"))
    assert state["step"] == 20 and len(state["history"].get("loss", [])) == 0
    capsys.readouterr()
    text = tmp_path / "b" / "text.txt"
    text.write_text(text.read_text("utf-8").replace("the", "a"), "utf-8")
    with pytest.raises(InputError, match="text.txt has changed"):
        train("causal", tmp_path / "b", save_minutes=0.0)
    shutil.copy(tmp_path / "a" / "text.txt", tmp_path / "b")
    flip(tmp_path / "b/run/checkpoints/step_20" / "arrays.safetensors")
    assert train("causal", tmp_path / "b", save_minutes=0.0) == straight
    output = capsys.readouterr().out
    assert "step_20: arrays.safetensors does not have the checksum" in output
    assert "Goes on from epoch 1, step 0 of 20" in output


class Counts(training.ResumableCallback):
    """The number of epochs it saw, and what it began with."""

    def __init__(self):
        super().__init__()
        self.epochs, self.made = 0, None

    def state(self):
        return {"epochs": self.epochs}

    def restore(self, state):
        self.epochs = state["epochs"]

    def resume(self, made, arrays):
        self.made = made

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


def fit_a_line(folder, *callbacks, optimizer=None):
    """Three epochs of five steps on y = 2 x, without the folder of a run; the model."""
    keras.utils.set_random_seed(1)
    x = np.linspace(-1, 1, 13, dtype="float32")[:, None]
    batches = tf_dataset(BatchPlan(np.ones(13), 3, seed=1), lambda i: (x[i], 2 * x[i]))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dropout(0.1), keras.layers.Dense(1)])
    model.compile(optimizer or training.adamw(1e-2), "mse")
    fit(model, batches, batches, 3, callbacks, steps=5, checkpoints=Checkpoints(folder))
    return model


def test_fit_goes_on_without_a_run_and_callbacks_go_on_with_it(tmp_path):
    straight = fit_a_line(tmp_path / "a", Counts())
    with pytest.raises(KeyboardInterrupt):
        fit_a_line(tmp_path / "b", Counts(), Dies(8))
    counts, progress, plain = Counts(), training.Progress(13), keras.callbacks.Callback()
    again = fit_a_line(tmp_path / "b", counts, plain, progress)
    assert (counts.epochs, counts.made, progress.made) == (3, 5, 5)
    assert again.history.history == straight.history.history
    for one, other in zip(straight.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    state = json.loads((tmp_path / "b" / "step_15" / "config.json").read_text("utf-8"))
    assert state["callbacks"] == {"0": {"epochs": 2}}, "before the last validation"


def test_fit_needs_an_optimizer_that_skips_bad_steps(tmp_path):
    with pytest.raises(InputError, match=r"is Adam\.[\s\S]*training\.adamw"):
        fit_a_line(tmp_path, optimizer=keras.optimizers.Adam())
    assert list(tmp_path.iterdir()) == []


class Swallows(keras.callbacks.Callback):
    """Catches what a signal raises in the validation, as tracing in TensorFlow may."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_test_end(self, logs=None):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except SystemExit:
            if self.error:
                raise self.error from None


@pytest.mark.parametrize("error", [None, ValueError("None values not supported")])
def test_a_signal_that_tensorflow_swallows(tmp_path, capsys, error):
    with pytest.raises(SystemExit) as end:
        fit_a_line(tmp_path, Swallows(error))
    assert end.value.code == 143 and capsys.readouterr().err.count("Ended by SIGTERM") == 1


@pytest.mark.slow
def test_killed_runs_in_processes_of_their_own():
    """A small part of `make soak`."""
    program = Path(__file__).parent / "kill_runs.py"
    command = [sys.executable, program, "kills", "--count", "2", "--runs", "1"]
    done = subprocess.run([*command, "--kinds", "classifier"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 ended otherwise" in done.stdout
