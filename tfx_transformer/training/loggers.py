"""Loggers of a running training's metrics: files for TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfx_transformer.training import hosts

# Folder in the folder of a run; `tensorboard --logdir runs` shows all runs.
TENSORBOARD = "tensorboard"
_SCALAR = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})

# Name under which a service lists all runs.
_PROJECT = "tfx-transformer"

Settings = Mapping[str, Any]


class EventFiles(keras.callbacks.Callback):
    """Writes the logs of each epoch for TensorBoard, as Keras's own callback does: scalars named
    `epoch_<name>`, those of the validation in a folder of their own. Keras's callback needs the
    package tensorboard; this one does not.

    Args:
        folder: where the files are written.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch, logs=None):
        with contextlib.suppress(tf.errors.OpError, OSError):  # the disk is full: training goes on
            for name, value in (logs or {}).items():
                part = "validation" if name.startswith("val_") else "train"
                tag = f"epoch_{name.removeprefix('val_')}"
                with self._writer(part).as_default():
                    tf.summary.write(tag, np.float32(value), step=epoch, metadata=_SCALAR)
            for writer in self._writers.values():
                writer.flush()

    def on_train_end(self, logs=None):
        with contextlib.suppress(tf.errors.OpError, OSError):
            for writer in self._writers.values():
                writer.close()
        self._writers = {}

    def _writer(self, part: str):
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        return self._writers[part]


@contextlib.contextmanager
def logging_to(
    folder: Path, service: str, settings: Settings
) -> Iterator[list[keras.callbacks.Callback]]:
    """Yield callbacks of `fit` that log each epoch; close the service's run at the end.

    Args:
        folder: folder of the run.
        service: "wandb" or "mlflow", to which host 0 logs; its package must be installed; "": none.
        settings: settings of the run, as JSON values.
    """
    files = EventFiles(folder / TENSORBOARD)
    if not service or hosts.index():
        yield [files]
        return
    with _SERVICES[service](folder.name, settings) as callback:
        yield [files, callback]


def remove_logs(folder: Path) -> None:
    """Remove the TensorBoard files of an earlier run in this folder."""
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)


@contextlib.contextmanager
def _wandb(name: str, settings: Settings) -> Iterator[keras.callbacks.Callback]:
    import wandb  # pyright: ignore[reportMissingImports]
    from wandb.integration.keras import WandbMetricsLogger  # pyright: ignore[reportMissingImports]

    with wandb.init(project=_PROJECT, name=name, config=dict(settings)):
        yield WandbMetricsLogger()


@contextlib.contextmanager
def _mlflow(name: str, settings: Settings) -> Iterator[keras.callbacks.Callback]:
    import mlflow  # pyright: ignore[reportMissingImports]
    from mlflow.keras import MlflowCallback  # pyright: ignore[reportMissingImports]

    mlflow.set_experiment(_PROJECT)
    with mlflow.start_run(run_name=name):
        mlflow.log_params(dict(settings))
        yield MlflowCallback()


_SERVICES: dict[str, Callable[[str, Settings], Any]] = {"wandb": _wandb, "mlflow": _mlflow}
