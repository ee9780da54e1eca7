"""Training on several devices and hosts: each has its share of every batch, and all weights, or its
part of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfx_transformer import devices
from tfx_transformer.data.batches import Batches
from tfx_transformer.errors import InputError
from tfx_transformer.training import hosts

# The weights that --model-parallel divides: a pattern of the last names of a path, and the axis of
# the mesh for each dimension. What enters a block is divided by columns and what leaves it by
# rows, so that a block adds vectors over the devices twice (Shoeybi et al. 2019, section 3). All
# kernels in 4 bits are divided by columns. Other weights are copied, and so are those with a
# dimension that the devices do not divide.
LAYOUT: dict[str, tuple[str | None, ...]] = {
    r"(query|key|value|expand|gate)/kernel": (None, "model"),
    r"(query|key|value|expand|gate)/bias": ("model",),
    r"(output_projection|contract)/kernel": ("model", None),
    r"embedding/embeddings": ("model", None),
    r"embedding/reverse_embeddings": (None, "model"),
}


def begin() -> None:
    """Put variables that are made from now on on the devices of `devices.use`.

    Each host makes its own variables, on its own devices; `Division` joins them for the steps of a
    training.

    Raises:
        InputError: JAX finds fewer devices; or see `hosts.join`.
    """
    hosts.join()
    chosen = devices.in_use()
    if not chosen.several:
        keras.distribution.set_distribution(None)
        return
    found = keras.distribution.list_devices()
    if hosts.count() > 1:
        import jax  # pyright: ignore[reportMissingImports]

        found = [f"{device.platform}:{device.id}" for device in jax.local_devices()]
    names = found[: chosen.number(len(found))]
    keras.distribution.set_distribution(_distribution(names, chosen.model_parallel))


def _distribution(names: list[str], parts: int) -> Any:
    """Return Keras's distribution over devices that divides weights into so many parts."""
    if parts == 1:
        return keras.distribution.DataParallel(devices=names)
    shape = (len(names) // parts, parts)
    mesh = keras.distribution.DeviceMesh(shape, ["batch", "model"], names)
    layout = keras.distribution.LayoutMap(mesh)
    for path, axes in LAYOUT.items():
        layout[rf"(.*/)?{path}"] = keras.distribution.TensorLayout(axes, mesh)
    return _DividedWeights(layout_map=layout, batch_dim_name="batch")


class _DividedWeights(keras.distribution.ModelParallel):
    """Weights are divided by `LAYOUT` where the devices divide their dimensions."""

    @property
    def num_processes(self):
        """1: each host has the whole model."""
        return 1

    def get_variable_layout(self, variable):
        layout, mesh = super().get_variable_layout(variable), self.device_mesh
        if len(variable.shape) == 1 and len(layout.axes) == 2:
            # A kernel in 4 bits, column after column.
            layout = keras.distribution.TensorLayout(["model"], mesh)
        sizes = [
            1 if axis is None else mesh.shape[mesh.axis_names.index(axis)] for axis in layout.axes
        ]
        fits = len(sizes) == len(variable.shape) and not any(
            length % size for length, size in zip(variable.shape, sizes, strict=True)
        )
        if fits:
            return layout
        return keras.distribution.TensorLayout([None] * len(variable.shape), mesh)


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """Let each device compute whole batches in the block. Otherwise, before a training is divided,
    Keras would refuse a batch whose number of rows the devices do not divide."""
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

    With H hosts, host h gives the rows h, h + H, … of every batch, and makes only these where
    `Batches.rows` is known.

    Keras's own distribution, which would refuse such a batch, ends when this is made.

    Args:
        batch_size: examples of a batch.

    Attributes:
        count: number of devices, of all hosts together.
        parts: number of parts of a batch; with --model-parallel less than `count`.
        weight_parts: number of parts of the weights.

    Raises:
        InputError: the batch size is not a multiple of `parts`.
    """

    def __init__(self, batch_size: int) -> None:
        self._data = keras.distribution.distribution()
        own = self._data.device_mesh.devices.size if self._data is not None else 1
        self.count = own * hosts.count()
        copies = self._data.device_mesh.shape[0] if self._data is not None else 1
        self.parts = copies * hosts.count()
        self.weight_parts = own // copies
        if batch_size % self.parts:
            more = -(-batch_size // self.parts) * self.parts
            raise InputError(
                f"a batch of {batch_size} cannot be divided among {self.count} devices.\n"
                f"  Pass --batch-size {more}, or another multiple of {self.parts}."
            )
        self._hosts = None
        if hosts.count() > 1:
            mesh = None if self._data is None else self._data.device_mesh.backend_mesh
            self._hosts = SharedDevices(mesh)
        keras.distribution.set_distribution(None)

    def training(self, batches: Batches, step: int) -> Any:
        """Return the training batches from a step on, each divided."""
        return batches.from_step(step) if self.count == 1 else self._divided(batches, step)

    def validation(self, batches: Batches) -> Any:
        """Return validation batches, each divided."""
        return batches if self.count == 1 else _Checks(batches, self)

    def _divided(self, batches: Batches, step: int) -> Iterator[Any]:
        if self._hosts is None or batches.rows is None:
            yield from map(self.divide, batches.from_step(step))
            return
        for own in batches.from_step(step, hosts.index(), hosts.count()):
            yield self._hosts.join(own, batches.rows)

    def batch(self, batches: Batches, examples: np.ndarray) -> Any:
        """Return a batch of these examples, divided."""
        if self._hosts is None or batches.rows is None:
            return self.divide(batches.batch(examples))
        own = batches.batch(examples, hosts.index(), hosts.count())
        return self._hosts.join(own, batches.rows)

    def divide(self, batch: Any) -> Any:
        """Return a batch whose arrays are on the devices."""
        if self._hosts is not None:
            return self._hosts.divide(batch)
        return keras.tree.map_structure(self._put, batch)

    def _put(self, array: Any) -> Any:
        array = np.asarray(array)
        axes = [None] * array.ndim
        if array.ndim and len(array) % self.parts == 0:
            axes[0] = self._data.batch_dim_name
        layout = keras.distribution.TensorLayout(axes, self._data.device_mesh)
        return keras.distribution.distribute_tensor(array, layout)

    @contextlib.contextmanager
    def joined(self, model: keras.Model) -> Iterator[None]:
        """Let the steps of a model's `fit` in the block be computed by all devices together.

        With several hosts only these steps have values that belong to all hosts. Whenever Keras
        sets the variables to the values of the training, they get this host's own, so each host
        computes for itself what callbacks need.
        """
        if self.count == 1:
            yield
            return
        before = model.train_function, model.test_function
        model.make_train_function()
        model.make_test_function()
        made = model.train_function, model.test_function
        model.train_function, model.test_function = map(self._step, made)
        try:
            with self._shared_variables(model):
                yield
        finally:
            model.train_function, model.test_function = before

    def _step(self, function: Callable[..., Any]) -> Any:
        """Return a step of Keras that knows into how many parts its batch is divided."""

        def step(*arguments: Any) -> Any:
            with devices.dividing(self.parts):
                return function(*arguments)

        return step if self._hosts is None else self._hosts.step(step)

    @contextlib.contextmanager
    def _shared_variables(self, model: keras.Model) -> Iterator[None]:
        """Bring the variables home whenever Keras sets them in the block; see `joined`."""
        shared = self._hosts
        if shared is None:
            yield
            return
        variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
        layouts = [variable._layout for variable in variables]
        for variable in variables:
            variable._layout = None
        sync = model.jax_state_sync

        def sync_at_home() -> None:
            sync()
            shared.bring_home(variables)

        model.jax_state_sync = sync_at_home
        try:
            yield
        finally:
            del model.jax_state_sync
            shared.bring_home(variables)
            for variable, layout in zip(variables, layouts, strict=True):
                variable._layout = layout
                if variable._value is not None:
                    variable._direct_assign(variable._value)


class SharedDevices:
    """The devices of all hosts, on which JAX makes arrays that belong to all of them.

    Args:
        mesh: JAX's mesh of the devices of this host, whose first axis divides batches; None: its
            first device.
    """

    def __init__(self, mesh: Any) -> None:
        import jax  # pyright: ignore[reportMissingImports]

        self._jax = jax
        local = jax.local_devices()
        if mesh is None:
            mesh = jax.sharding.Mesh(np.array(local[:1]), ("batch",))
        self._own = list(mesh.devices.flat)
        places = [local.index(device) for device in self._own]
        everybody = [
            [d for d in jax.devices() if d.process_index == host] for host in range(hosts.count())
        ]
        all_devices = np.array([[one[place] for place in places] for one in everybody])
        shape = (len(everybody) * mesh.devices.shape[0], *mesh.devices.shape[1:])
        self._local = mesh
        self._mesh = jax.sharding.Mesh(all_devices.reshape(shape), mesh.axis_names)
        # Every device of a host gets all rows that the host gives.
        by_host = jax.sharding.Mesh(all_devices, ("host", "own"))
        self._given = jax.sharding.NamedSharding(by_host, jax.sharding.PartitionSpec("host"))
        self._orders: dict[tuple[int, ...], Any] = {}

    def divide(self, batch: Any) -> Any:
        """Return a batch whose arrays belong to all hosts: each gives its rows, and the devices get
        them in the order of the batch."""
        arrays, structure = self._jax.tree.flatten(batch)
        lengths = tuple(len(array) for array in arrays)  # a pair of texts may have one weight
        own = [np.asarray(array)[hosts.index() :: hosts.count()] for array in arrays]
        return self._jax.tree.unflatten(structure, self._join(own, lengths))

    def join(self, batch: Any, rows: int) -> Any:
        """Return a batch as `divide` does, from the rows of this host alone.

        Args:
            batch: the arrays of these rows.
            rows: number of rows in each array of the whole batch.
        """
        arrays, structure = self._jax.tree.flatten(batch)
        own = [np.asarray(array) for array in arrays]
        return self._jax.tree.unflatten(structure, self._join(own, (rows,) * len(own)))

    def _join(self, own: Sequence[np.ndarray], lengths: tuple[int, ...]) -> list[Any]:
        if lengths not in self._orders:
            self._orders[lengths] = self._order(lengths)
        given = [self._give(*both) for both in zip(own, lengths, strict=True)]
        return self._orders[lengths](given)

    def _give(self, own: np.ndarray, length: int) -> Any:
        """Return the rows that all hosts give, those of host 0 first; zeros fill up the last.

        Args:
            own: the rows that this host gives.
            length: number of rows of all hosts.
        """
        part = -(-length // hosts.count())
        own = np.concatenate([own, np.zeros((part - len(own), *own.shape[1:]), own.dtype)])
        shape = (part * hosts.count(), *own.shape[1:])
        return self._jax.make_array_from_process_local_data(self._given, own, shape)

    def _order(self, lengths: Sequence[int]) -> Any:
        """Return a function that puts the rows that hosts gave into the order of a batch.

        Args:
            lengths: number of rows of each of its arrays.
        """

        def order(array: Any, length: int) -> Any:
            by_host = array.reshape(hosts.count(), -1, *array.shape[1:])
            return by_host.swapaxes(0, 1).reshape(array.shape)[:length]

        return self._jax.jit(
            lambda arrays: [order(*both) for both in zip(arrays, lengths, strict=True)],
            out_shardings=[self._sharding(length) for length in lengths],
        )

    def _sharding(self, length: int) -> Any:
        """Return where the rows of an array are: divided, or all on every device."""
        divides = length % self._mesh.devices.shape[0] == 0
        spec = self._jax.sharding.PartitionSpec(*self._mesh.axis_names[: int(divides)])
        return self._jax.sharding.NamedSharding(self._mesh, spec)

    def step(self, function: Any) -> Any:
        """Return a step of Keras whose state belongs to all hosts."""

        def shared(state: Any, iterator: Any) -> Any:
            return function(self._jax.tree.map(self._share, state), iterator)

        return shared

    def _share(self, value: Any) -> Any:
        """Return one array of all devices, of an array that each host has on its own devices."""
        if not value.is_fully_addressable:
            return value
        spec = getattr(value.sharding, "spec", self._jax.sharding.PartitionSpec())
        if len(value.sharding.device_set) == len(self._own):
            by_device = {shard.device: shard.data for shard in value.addressable_shards}
        else:
            by_device = {}
        if set(by_device) != set(self._own):
            spec = self._jax.sharding.PartitionSpec()
            by_device = {device: self._jax.device_put(value, device) for device in self._own}
        sharding = self._jax.sharding.NamedSharding(self._mesh, spec)
        parts = [by_device[device] for device in self._own]
        return self._jax.make_array_from_single_device_arrays(value.shape, sharding, parts)

    def bring_home(self, variables: Iterable[Any]) -> None:
        """Make the values of variables this host's own."""
        for variable in variables:
            value = variable._value
            if isinstance(value, self._jax.Array) and not value.is_fully_addressable:
                variable._value = None if value.is_deleted() else self._home(value)

    def _home(self, value: Any) -> Any:
        """Return an array of this host's devices: their part of an array of all devices."""
        if len(self._own) == 1:
            return value.addressable_data(0)
        sharding = self._jax.sharding.NamedSharding(self._local, value.sharding.spec)
        by_device = {shard.device: shard.data for shard in value.addressable_shards}
        parts = [by_device[device] for device in self._own]
        return self._jax.make_array_from_single_device_arrays(value.shape, sharding, parts)


class _Checks(keras.utils.PyDataset):
    """Validation batches, the same in every epoch, as Keras reads them."""

    def __init__(self, batches: Batches, division: Division) -> None:
        super().__init__()
        self._batches, self._division = batches, division
        self._order = batches.plan.order(0)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Any:
        return self._division.batch(self._batches, self._order[index])
