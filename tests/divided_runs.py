"""A training of a second that is divided among devices and hosts: 4 epochs of 67 packed texts, of
texts with labels, or of images."""

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
from tiny_models import CONVOLUTIONS, VARIANTS, tiny_causal, tiny_encoder

import tfx_transformer as tfx
from tfx_transformer import devices
from tfx_transformer.data.batches import BatchPlan, pad, tf_dataset
from tfx_transformer.layers import attention
from tfx_transformer.models import token_scores
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.training import hosts
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.distribution import Division, SharedDevices
from tfx_transformer.training.fit import fit
from tfx_transformer.training.optimizers import adamw

EXAMPLES, EPOCHS, STEPS = 67, 4, 5  # batches of 16, and one of 3
# Tokens of each labelled text; other examples have 7.
LENGTHS = 7 - np.arange(EXAMPLES) % 5
# Logits and scores that a device computes at once: of two texts.
CHUNK, BLOCK = 2 * 7 * 24, 2 * 6 * 7 * 7


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
    all examples, no two of which are equal.

    Args:
        kind: one of `KINDS`.
        folder: folder of the checkpoints.
        extra: more callbacks.
        save_minutes: as in `fit`.
    """
    tfx.training.set_random_seed(3)
    model, batch, labels = KINDS[kind]()
    lengths = LENGTHS if kind == "texts" else np.full(EXAMPLES, 7)
    rows = 16 if kind == "own rows" else None
    batches = tf_dataset(BatchPlan(lengths, 16, seed=1), batch, rows=rows)
    checks = tf_dataset(BatchPlan(lengths, 16, shuffle=False), batch, rows=rows)
    tfx.training.accumulate(model, 2 if kind == "in parts" else 1)
    if kind == "in chunks":
        model.remat, token_scores.CHUNK, attention.BLOCK = True, CHUNK, BLOCK
    model.compile(adamw(3e-4, 3, average=0.9))
    losses, read, given = [], [], []
    whole, give = Division.training, SharedDevices._give

    def recorded(shared, own, length):
        given.append(own)
        return give(shared, own, length)

    def counted(division, batches, step):
        for divided in whole(division, batches, step):
            # Of several hosts each has given its rows of all arrays, labels and weights last.
            read.append(np.asarray(given[-2] if given else divided[1]).tolist())
            yield divided

    each = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda index, logs: losses.append(float(logs["loss"]))
    )
    Division.training, SharedDevices._give = counted, recorded
    try:
        options = {"steps": STEPS, "checkpoints": Checkpoints(folder)}
        fit(model, batches, checks, EPOCHS, [each, *extra], **options, save_minutes=save_minutes)
    finally:
        Division.training, SharedDevices._give = whole, give
    hosts.leave()
    return {
        "losses": losses,
        "validation": model.history.history["val_loss"],
        "answer": np.asarray(model.predict(batch([0])[0], verbose=0)).tolist(),
        "weights": [np.asarray(variable.value).tolist() for variable in model.trainable_variables],
        "devices": len(model.trainable_variables[0].value.sharding.device_set),
        "divided": divided([*model.variables, *model.optimizer.variables]),
        "read": read,
        "labels": labels.tolist(),
    }


def texts(kind: str) -> tuple[Any, Callable[[Sequence[int]], Any], np.ndarray]:
    """Return a model of packed texts, a function from rows to a batch, and the labels of all."""
    model = tiny_causal(0.3, seed=8, num_layers=1, vocabulary_size=24, **VARIANTS["llama"])
    if kind.startswith("lora"):
        stored = "nf4" if kind == "lora in 4 bits" else None
        tfx.add_adapters(model, 2, 4, base_dtype=stored)
    random = np.random.default_rng(5)
    ids = random.integers(3, 23, (EXAMPLES, 8)).astype("int32")
    weights = (random.random((EXAMPLES, 7)) < 0.8).astype("float32")
    if kind == "a batch without a finite gradient":
        weights[5] = np.nan

    def batch(rows):
        inputs = {
            "token_ids": ids[rows, :-1],
            "positions": np.tile([0, 1, 2, 0, 1, 2, 3], (len(rows), 1)).astype("int32"),
            "segment_ids": np.tile([1, 1, 1, 2, 2, 2, 2], (len(rows), 1)).astype("int32"),
        }
        return inputs, ids[rows, 1:], weights[rows]

    def own_rows(rows, host=0, hosts=1):
        # Whole batches have 16 rows: the last ones weigh nothing.
        filled = keras.tree.map_structure(
            lambda array: np.pad(array, [(0, 16 - len(rows))] + [(0, 0)] * (array.ndim - 1)),
            batch(rows),
        )
        return keras.tree.map_structure(lambda array: array[host::hosts], filled)

    return model, own_rows if kind == "own rows" else batch, ids[:, 1:]


def labelled() -> tuple[Any, Callable[[Sequence[int]], Any], np.ndarray]:
    """Return a classifier of texts of 3 to 7 tokens, with dropout and a class for each text, a
    function from rows to a batch, and the labels of all."""
    sizes = {"num_layers": 1, "num_classes": EXAMPLES + 1}
    model = tiny_encoder(Classifier, 0.3, seed=8, dropout=0.1, **sizes)
    random = np.random.default_rng(5)
    rows_of_ids = [random.integers(3, 23, length).tolist() for length in LENGTHS]
    labels, weights = np.arange(1, EXAMPLES + 1), np.ones(EXAMPLES, "float32")

    def batch(rows):
        return (
            {"token_ids": pad([rows_of_ids[row] for row in rows], 0)},
            labels[rows],
            weights[rows],
        )

    return model, batch, labels


def images() -> tuple[Any, Callable[[Sequence[int]], Any], np.ndarray]:
    """Return a classifier of images, with dropout and a class for each image, a function from rows
    to a batch, and the labels of all."""
    sizes = {**CONVOLUTIONS, "num_layers": 1, "num_classes": EXAMPLES}
    model = tiny_encoder(Classifier, 0.3, seed=8, dropout=0.1, **sizes)
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (EXAMPLES, 11, 11, 3)).astype("float32")
    labels, weights = np.eye(EXAMPLES, dtype="float32"), np.ones(EXAMPLES, "float32")
    return model, lambda rows: ({"images": pixels[rows]}, labels[rows], weights[rows]), labels


KINDS: dict[str, Callable[[], Any]] = {
    "images": images,
    "texts": labelled,
} | {
    kind: functools.partial(texts, kind)
    for kind in (
        "packed",
        "lora",
        "lora in 4 bits",
        "own rows",  # each host makes its rows only
        "in parts",
        "in chunks",  # and with rematerialisation
        "a batch without a finite gradient",
    )
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


def on_hosts(
    work: Callable[[int], Any], hosts: int, devices: int = 1, parts: int = 1
) -> list[Ended]:
    """Return the ends of some hosts, each a copy of this process that calls `work` with its index.

    Args:
        work: what a host does.
        hosts: their number.
        devices: number of devices of each.
        parts: parts into which the weights are divided.

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
            chosen = {"devices": "all", "model_parallel": parts} | (flags if hosts > 1 else {})
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
        except BaseException as error:
            if devices.leave_early is not None:
                devices.leave_early(error)  # as `flags.run` does
            status = error.code if isinstance(error, SystemExit) else 1
            traceback.print_exc()
        atexit._run_exitfuncs()
        output.flush()
        os._exit(status)
