"""The time of a step: what `tfx-transformer plan` and a run compute, and what is measured.

Times are seconds of the processor, so other programs hardly change them. The peak is that of matrix
products in the format of the arithmetic, in the same process, before, between and after the steps.
"share" is the share of this peak that the operations of `plan` reach. "expected" is the share that
`plan --device cpu` and the estimate of a run expect (`planning.cpu_utilisation`). It was chosen
from these steps, which have no dropout, and from steps of recipes that have it: see docs/scale.md.

    python -m benchmarks planning_time

It takes about 3 minutes on 2 cores. Expect a share of 50 to 75 %.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.planning import SHAPES, batch_of, new_model
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
CASES = (Case("step", "a training step", {}),)


def measured(settings: Settings, shape: str) -> dict[str, Any]:
    """The computed and the measured time of a step, in seconds of the processor."""
    import tfx_transformer as tfx
    from tfx_transformer import planning
    from tfx_transformer.models.saving import TASKS
    from tfx_transformer.models.work import sizes

    _, style, dimensions, vocabulary, rows, length, precision, base_dtype = SHAPES[shape]
    cls = TASKS["masked" if style == "bert" else "causal"]
    options = {**dimensions, "dropout": 0.0, "max_sequence_length": length}
    config = tfx.TransformerConfig.of_size("nano", vocabulary, style, **options)
    training = planning.Training(precision, base_dtype)
    each = planning.operations(config, sizes(cls, config, training), length, training)
    operations = each * rows * length
    model = new_model(cls, config, precision, base_dtype)
    model.compile(tfx.training.adamw(1e-3))
    batch = batch_of(model, rows, length)
    model.train_on_batch(*batch)  # compiles
    dtype = "float32" if precision == "float32" else "bfloat16"
    peaks, times = [peak(dtype)], []
    for _ in range(1 if settings["quick"] else 5):
        times.append(seconds(functools.partial(model.train_on_batch, *batch)))
        peaks.append(peak(dtype))
    best, found = statistics.median(peaks), statistics.median(times)
    share = operations / best / found
    expected = planning.cpu_utilisation(config.dropout)
    return {
        "GFLOP": round(operations / 1e9),
        "peak, GFLOP/s": round(best / 1e9),
        "measured, s": round(found, 2),
        "share": f"{share:.0%}",
        "expected": f"{expected:.0%}",
        "error": f"{share / expected - 1:+.0%}",
    }


def peak(dtype: str) -> float:
    """Return the operations of matrix products in a second of the processor."""
    from keras import ops

    matrix = ops.ones((1_536, 1_536), dtype)
    return 2 * 1_536**3 / seconds(lambda: ops.convert_to_numpy(ops.matmul(matrix, matrix)))


def seconds(work: Callable[[], Any]) -> float:
    """Return the seconds of the processor that some work takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


SYSTEMS = tuple(
    System(
        f"tfx-{name}",
        f"{shape[0]}, {shape[4]} texts of {shape[5]:,}, {shape[6]}",
        functools.partial(measured, shape=name),
        OURS,
        KERAS,
    )
    for name, shape in SHAPES.items()
)
