"""The operations that a training step of a recipe spends its time in, by TensorFlow's profiler.

    python -m benchmarks.step_profile translation
    python -m benchmarks.step_profile text_classification --csv my.csv --text text --label label

Runs a recipe as `tfx-transformer run` does, in a folder that is removed again, watches 20 of its
steps after the first 34, and stops it. The milliseconds are those in which an operation was at
work, summed over the threads, so shares may be compared on a busy machine too. "Products" are
products of matrices and convolutions; the rest is what a step does besides. Where 20 steps are more
than an epoch, the validation between epochs counts too.
"""

from __future__ import annotations

import collections
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

FIRST, STEPS, SHOWN = 34, 20, 15
_OPERATION = re.compile(r"[^:]+:(_?[A-Z]\w*)")
_PRODUCT = re.compile("MatMul|Conv")


class Stop(BaseException):
    """The steps have been watched. A recipe handles each `Exception`, so this is none."""


def seconds_by_type(events: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the seconds of each type of operation, most first.

    Args:
        events: name and seconds of each event; "layer/MatMul:_MklMatMul" is an operation, names
            without one colon are not.
    """
    found = collections.Counter()
    for name, seconds in events:
        if match := _OPERATION.fullmatch(name):
            found[match[1]] += seconds
    return dict(found.most_common())


def table(seconds: dict[str, float], steps: int) -> list[str]:
    """Return the lines of the table: milliseconds of a step, and the share of all operations."""
    total = sum(seconds.values())
    products = sum(value for name, value in seconds.items() if _PRODUCT.search(name))
    rows = [("products", products), *list(seconds.items())[:SHOWN]]
    lines = ["| operations of a step | ms | share |", "|---|---|---|"]
    lines += [
        f"| {name} | {1000 * value / steps:.1f} | {100 * value / total:.0f} % |"
        for name, value in [("all", total), *rows]
    ]
    return lines


def read_events(folder: str) -> list[tuple[str, float]]:
    """Return name and seconds of each event on the processor in a folder of the profiler."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    [file] = Path(folder).glob("plugins/profile/*/*.xplane.pb")
    planes = xplane_pb2.XSpace.FromString(file.read_bytes()).planes
    return [
        (plane.event_metadata[event.metadata_id].name, event.duration_ps / 1e12)
        for plane in planes
        if "CPU" in plane.name
        for line in plane.lines
        for event in line.events
    ]


def watch(folder: str) -> None:
    """Let Keras profile the steps into a folder, and stop after them."""
    import keras
    import tensorflow as tf

    lists = keras.callbacks.CallbackList
    before, counted = lists.on_train_batch_end, 0

    def on_train_batch_end(self, batch, logs=None):
        nonlocal counted
        before(self, batch, logs)
        counted += 1
        if counted == FIRST:
            tf.profiler.experimental.start(folder)
        elif counted == FIRST + STEPS:
            tf.profiler.experimental.stop()
            raise Stop

    lists.on_train_batch_end = on_train_batch_end


def main(arguments: list[str]) -> None:
    """Profile the recipe that the first argument names, with the other arguments as its flags."""
    import tfx_transformer as tfx

    recipe = importlib.import_module(f"recipes.{arguments[0]}")
    flags = [os.path.abspath(one) if os.path.exists(one) else one for one in arguments[1:]]
    with tempfile.TemporaryDirectory() as folder:
        watch(os.path.join(folder, "profile"))
        os.chdir(folder)
        sys.argv = [arguments[0], *flags]
        try:
            tfx.flags.run(recipe.main)
            sys.exit(f"The training has fewer than {FIRST + STEPS} steps.")
        except Stop:
            events = read_events("profile")
        finally:
            os.chdir("/")
    print("\n".join(table(seconds_by_type(events), STEPS)))


if __name__ == "__main__":
    main(sys.argv[1:])
