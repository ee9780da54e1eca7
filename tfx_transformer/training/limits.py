"""The ranges of a training's numbers."""

from __future__ import annotations

from tfx_transformer.errors import InputError


def check_ends(patience: int, minutes: float) -> None:
    """Raise if the limits of a training are out of range.

    Args:
        patience: training ends after this many epochs without a better score.
        minutes: limit of training and validation together; 0: no limit.

    Raises:
        InputError: one of them is out of range.
    """
    if patience < 1 or not minutes >= 0:
        raise InputError(
            f"patience is {patience} and minutes is {minutes}.\n"
            "  Expected at least 1 epoch of patience, and 0 (no limit) or more minutes."
        )


def check_rates(
    learning_rate: float = 1e-3,
    warmup_steps: int = 0,
    layer_decay: float = 1.0,
    average: float = 0.0,
) -> None:
    """Raise if an argument of `optimizers.adamw` is out of range.

    Raises:
        InputError: one of them is out of range.
    """
    if not (0 < layer_decay <= 1 and 0 <= average < 1):
        raise InputError(
            f"layer_decay is {layer_decay} and average is {average}.\n"
            "  Expected a factor above 0 and at most 1, and a momentum from 0 to below 1."
        )
    if not learning_rate > 0 or warmup_steps < 0:
        raise InputError(
            f"learning_rate is {learning_rate} and warmup_steps is {warmup_steps}.\n"
            "  Expected a rate above 0 and 0 or more steps."
        )


def rounds(steps: int, validate_every: int) -> int:
    """Return steps / validate_every, rounded up: the epochs of an endless data set.

    Raises:
        InputError: one of them is below 1.
    """
    if steps < 1 or validate_every < 1:
        raise InputError(
            f"steps is {steps} and validate_every is {validate_every}.\n  Expected 1 or more."
        )
    return -(-steps // validate_every)
