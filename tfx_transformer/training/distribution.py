"""Training on several devices, each with all weights and its share of every batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from tfx_transformer import devices
from tfx_transformer.data.batches import Batches
from tfx_transformer.errors import InputError


def begin() -> None:
    """Make variables from now on on the devices that `devices.use` was given.

    Raises:
        InputError: JAX finds fewer devices.
    """
    chosen = devices.in_use()
    if not chosen.several:
        keras.distribution.set_distribution(None)
        return
    found = keras.distribution.list_devices()
    names = found[: chosen.number(len(found))]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """Let each device compute whole batches: before a training is divided, Keras would refuse a
    batch whose number of rows the devices do not divide."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


class Division:
    """Divides batches among the devices on which variables are made, if there are several.

    A batch whose number of examples the devices do not divide, such as the last one of an epoch, is
    computed whole by each device. So every batch has the loss, the gradient and the metrics that it
    has on one device, and no example is padding.

    Keras's own distribution, which would refuse such a batch, ends when this is made.

    Args:
        batch_size: examples of a batch.

    Attributes:
        count: number of devices.

    Raises:
        InputError: the devices do not divide the batch size.
    """

    def __init__(self, batch_size: int) -> None:
        self._data = keras.distribution.distribution()
        self.count = self._data.device_mesh.devices.size if self._data is not None else 1
        if batch_size % self.count:
            more = -(-batch_size // self.count) * self.count
            raise InputError(
                f"a batch of {batch_size} cannot be divided among {self.count} devices.\n"
                f"  Pass --batch-size {more}, or another multiple of {self.count}."
            )
        keras.distribution.set_distribution(None)

    def training(self, batches: Iterable[Any]) -> Any:
        """Return training batches, each divided."""
        return batches if self.count == 1 else self._divided(batches)

    def validation(self, batches: Batches) -> Any:
        """Return validation batches, each divided."""
        return batches if self.count == 1 else _Checks(batches, self)

    def _divided(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            yield self.divide(batch)

    def divide(self, batch: Any) -> Any:
        """Return a batch whose arrays are on the devices."""
        return keras.tree.map_structure(self._put, batch)

    def _put(self, array: Any) -> Any:
        array = np.asarray(array)
        axes = [None] * array.ndim
        if array.ndim and len(array) % self.count == 0:
            axes[0] = self._data.batch_dim_name
        layout = keras.distribution.TensorLayout(axes, self._data.device_mesh)
        return keras.distribution.distribute_tensor(array, layout)


class _Checks(keras.utils.PyDataset):
    """Validation batches, the same in every epoch, as Keras reads them."""

    def __init__(self, batches: Batches, division: Division) -> None:
        super().__init__()
        self._batches, self._division = batches, division
        self._order = batches.plan.order(0)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Any:
        return self._division.divide(self._batches.batch(self._order[index]))
