"""Metrics of a training for TensorBoard, read by TensorFlow's own reader, and for services that
stand-in modules play."""

import contextlib
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_transformer.errors import InputError
from tfx_transformer.training import hosts
from tfx_transformer.training.loggers import EventFiles, logging_to, remove_logs
from tfx_transformer.training.preflight import check_logger


def events(folder):
    """(step, tag, value) of every scalar in the event files of a folder."""
    (file,) = folder.iterdir()
    found = []
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.append((event.step, value.tag, float(tf.make_ndarray(value.tensor))))
    return found


def fit(callbacks):
    """The history of three epochs of a model that learns a line, with a validation."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.arange(5.0)[:, None], np.arange(5.0) * 2
    options = {"validation_data": (x, y), "epochs": 3, "verbose": 0, "callbacks": callbacks}
    return model.fit(x, y, **options).history


def test_tensorboard_reads_what_was_measured(tmp_path, capsys):
    with logging_to(tmp_path / "runs" / "mine", "", {}) as callbacks:
        history = fit(callbacks)
    folder = tmp_path / "runs" / "mine" / "tensorboard"
    for part, name in (("train", "loss"), ("validation", "val_loss")):
        expected = [(n, "epoch_loss", pytest.approx(v)) for n, v in enumerate(history[name])]
        assert events(folder / part) == expected
    assert capsys.readouterr().out == ""
    remove_logs(tmp_path / "runs" / "mine")
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_does_not_end_a_training(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    assert len(fit([EventFiles(tmp_path / "tensorboard")])["loss"]) == 3


class Seen(keras.callbacks.Callback):
    """Notes the epochs that it is told."""

    def __init__(self):
        super().__init__()
        self.epochs = []
        Seen.last = self

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, sorted(logs)))


@pytest.fixture
def services(monkeypatch):
    """What the stand-ins of wandb and mlflow were asked."""
    asked = []

    @contextlib.contextmanager
    def started(name, options):
        asked.append((name, options))
        try:
            yield
        finally:
            asked.append((name, "ended"))

    def module(name, **names):
        made = types.ModuleType(name)
        vars(made).update(names)
        monkeypatch.setitem(sys.modules, name, made)

    module("wandb", init=lambda **options: started("wandb", options))
    module("wandb.integration")
    module("wandb.integration.keras", WandbMetricsLogger=Seen)
    module(
        "mlflow",
        set_experiment=lambda name: asked.append(("experiment", name)),
        start_run=lambda **options: started("mlflow", options),
        log_params=lambda values: asked.append(("params", values)),
    )
    module("mlflow.keras", MlflowCallback=Seen)
    return asked


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_a_service_follows_and_is_told_the_end(services, tmp_path, service):
    settings = {"epochs": 3, "name": "mine"}
    with logging_to(tmp_path / "mine", service, settings) as callbacks:
        fit(callbacks)
    assert Seen.last.epochs == [(n, ["loss", "val_loss"]) for n in range(3)]
    if service == "wandb":
        options = {"project": "tfx-transformer", "name": "mine", "config": settings}
        assert services == [("wandb", options), ("wandb", "ended")]
    else:
        assert services == [
            ("experiment", "tfx-transformer"),
            ("mlflow", {"run_name": "mine"}),
            ("params", settings),
            ("mlflow", "ended"),
        ]


def test_only_host_0_logs_to_a_service(services, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "index", lambda: 1)
    with logging_to(tmp_path / "mine", "wandb", {}) as callbacks:
        assert len(callbacks) == 1
    assert services == []


def test_a_service_ends_when_training_fails(services, tmp_path):
    with pytest.raises(KeyError), logging_to(tmp_path / "mine", "wandb", {}):
        raise KeyError
    assert services[-1] == ("wandb", "ended")


def test_a_logger_that_is_not_installed_is_refused():
    with pytest.raises(InputError, match="--log mlflow: .*not installed.\n  pip install mlflow"):
        check_logger("mlflow")
    check_logger("")
