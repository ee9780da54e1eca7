"""A training of a second that is divided among devices and hosts: 4 epochs of 67 packed texts."""

from __future__ import annotations

import atexit
import functools
import json
import math
import os
import shutil
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import keras
import numpy as np
from on_jax import xla_flags
from tiny_models import VARIANTS, tiny_causal

import tfx_transformer as tfx
from tfx_transformer import devices
from tfx_transformer.data.batches import BatchPlan, tf_dataset
from tfx_transformer.training import hosts
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.distribution import Division, SharedDevices
from tfx_transformer.training.fit import fit
from tfx_transformer.training.optimizers import adamw

TEXTS, EPOCHS, STEPS = 67, 4, 5  # batches of 16, and one of 3


def train(
    kind: str,
    folder: Path,
    extra: Sequence[keras.callbacks.Callback] = (),
    *,
    save_minutes: float = 0,
) -> dict[str, Any]:
    """Train on the devices in use, and return the losses of all steps and of the validation, an
    answer, the weights, the number of devices of one of them, paths and the share of a device of
    weights and moments that are divided, the labels of this host's rows of each step, and those of
    all texts.

    Args:
        kind: "packed", "lora", "in parts", or "a batch without a finite gradient".
        folder: folder of the checkpoints.
        extra: more callbacks.
        save_minutes: as in `fit`.
    """
    tfx.training.set_random_seed(3)
    model = tiny_causal(0.3, seed=8, num_layers=1, vocabulary_size=24, **VARIANTS["llama"])
    if kind == "lora":
        tfx.add_adapters(model, 2, 4)
    random = np.random.default_rng(5)
    texts = random.integers(3, 23, (TEXTS, 8)).astype("int32")
    weights = (random.random((TEXTS, 7)) < 0.8).astype("float32")
    if kind == "a batch without a finite gradient":
        weights[5] = np.nan

    def batch(rows):
        inputs = {
            "token_ids": texts[rows, :-1],
            "positions": np.tile([0, 1, 2, 0, 1, 2, 3], (len(rows), 1)).astype("int32"),
            "segment_ids": np.tile([1, 1, 1, 2, 2, 2, 2], (len(rows), 1)).astype("int32"),
        }
        return inputs, texts[rows, 1:], weights[rows]

    batches = tf_dataset(BatchPlan(np.full(TEXTS, 7), 16, seed=1), batch)
    checks = tf_dataset(BatchPlan(np.full(TEXTS, 7), 16, shuffle=False), batch)
    tfx.training.accumulate(model, 2 if kind == "in parts" else 1)
    model.compile(adamw(3e-4, 3, average=0.9))
    losses, read, given = [], [], []
    whole, own = Division.training, SharedDevices.own_rows

    def recorded(shared, array):
        given.append(own(shared, array))
        return given[-1]

    def counted(division, batches):
        for divided in whole(division, batches):
            # Of several hosts each has given its rows of five arrays; the fourth are the labels.
            read.append(np.asarray(given[-2] if given else divided[1]).tolist())
            yield divided

    each = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda index, logs: losses.append(float(logs["loss"]))
    )
    Division.training, SharedDevices.own_rows = counted, recorded
    try:
        options = {"steps": STEPS, "checkpoints": Checkpoints(folder)}
        fit(model, batches, checks, EPOCHS, [each, *extra], **options, save_minutes=save_minutes)
    finally:
        Division.training, SharedDevices.own_rows = whole, own
    hosts.leave()
    return {
        "losses": losses,
        "validation": model.history.history["val_loss"],
        "answer": np.asarray(model.predict(batch([0])[0], verbose=0)).tolist(),
        "weights": [np.asarray(variable.value).tolist() for variable in model.trainable_variables],
        "devices": len(model.trainable_variables[0].value.sharding.device_set),
        "divided": divided([*model.variables, *model.optimizer.variables]),
        "read": read,
        "texts": texts[:, 1:].tolist(),
    }


def divided(variables: Sequence[keras.Variable]) -> dict[str, float]:
    """Return the share that one device holds of each divided variable, by path."""
    parts = {v.path: (v.value.sharding.shard_shape(v.shape), v.shape) for v in variables}
    shares = {path: math.prod(part) / math.prod(whole) for path, (part, whole) in parts.items()}
    return {path: share for path, share in shares.items() if share < 1}


class At(keras.callbacks.Callback):
    """Calls a function after a step, counted from 1."""

    def __init__(self, step: int, function) -> None:
        super().__init__()
        self.left, self.function = step, function

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            self.function()


class Ended(NamedTuple):
    """A host that has ended: its exit status, as of `subprocess`, its result and its output."""

    status: int
    result: Any
    output: str


def on_hosts(work: Callable[[int], Any], hosts: int, devices: int = 1) -> list[Ended]:
    """Return the ends of some hosts, each a copy of this process that calls `work` with its index.

    The copies are made by fork, so that Keras is imported once; JAX starts in the copies.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = Path(tempfile.mkdtemp())  # without a finalizer, which the copies would call too
    processes, ended = [], []
    for index in range(hosts):
        processes.append(os.fork())
        if not processes[-1]:
            os.environ["XLA_FLAGS"] = xla_flags(devices)
            flags = {"hosts": str(hosts), "coordinator": address, "host_index": index}
            chosen = {"devices": "all"} | (flags if hosts > 1 else {})
            _work(functools.partial(work, index), chosen, folder / str(index))
    for index, process in enumerate(processes):
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        result, output = folder / f"{index}.json", folder / f"{index}.txt"
        value = json.loads(result.read_text("utf-8")) if result.exists() else None
        ended.append(Ended(status, value, output.read_text("utf-8", errors="replace")))
    shutil.rmtree(folder)
    return ended


def _work(work: Callable[[], Any], chosen: dict[str, Any], file: Path) -> NoReturn:
    """Call a function as a whole process does, and end this one."""
    status: Any = 1
    with file.with_suffix(".txt").open("w", buffering=1, encoding="utf-8") as output:
        for number in (1, 2):
            os.dup2(output.fileno(), number)
        sys.stdout = sys.stderr = output
        try:
            devices.use(devices.Devices(**chosen))
            file.with_suffix(".json").write_text(json.dumps(work()), "utf-8")
            status = 0
        except SystemExit as error:
            status = error.code
        except BaseException:
            traceback.print_exc()
        if devices.leave_early is not None:
            devices.leave_early(status)  # as `flags.run` does
        atexit._run_exitfuncs()
        output.flush()
        os._exit(status)
