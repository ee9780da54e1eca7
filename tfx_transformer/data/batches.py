"""The examples of each batch: a pure function of the lengths, a seed and the epoch."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfx_transformer.errors import InputError

# Batches that are sorted by length together. Fewer: more padding; more: the same neighbours meet
# in every epoch.
_POOL = 50

# Batches are padded to a multiple of this, so that shapes repeat.
_LENGTH_STEP = 4

# Batches whose time is kept; no more are made ahead of the training.
_RECORDED = 64


class BatchPlan:
    """Length-bucketed batches whose order can be computed again for any epoch.

    Examples are permuted, cut into pools of some batches, sorted by length inside each pool, cut
    into batches, and the batches permuted. The number of batches is the same in every epoch.

    Args:
        lengths: int (examples,) or (examples, k); length of each example (in tokens, per text).
        batch_size: examples per batch; the last one may be smaller.
        shuffle: False keeps the order of the examples, and batches hold neighbours.
        seed: of the permutations.
        mixed: batches hold examples of any length; pools are not sorted.
    """

    def __init__(
        self,
        lengths: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        mixed: bool = False,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}.\n  Expected 1 or more.")
        self.lengths = np.asarray(lengths).reshape(len(lengths), -1)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.mixed = mixed

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the indices of the examples in every batch of an epoch (counted from 0)."""
        count, size = len(self.lengths), self.batch_size
        if not self.shuffle:
            return [np.arange(i, min(i + size, count)) for i in range(0, count, size)]
        random = np.random.default_rng([self.seed, epoch])
        permutation = random.permutation(count)
        batches = []
        for start in range(0, count, _POOL * size):
            pool = permutation[start : start + _POOL * size]
            if not self.mixed:
                # The last column is the first key: the target, whose logits cost most to pad.
                pool = pool[np.lexsort(self.lengths[pool].T)]
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def index(self, example: int) -> int:
        """Return the index among all examples of a number that `order` returned."""
        return example % len(self.lengths)

    def name(self, example: int) -> str:
        """The name of an example without a row, such as "example 12", counted from 1."""
        return f"example {self.index(example) + 1}"


class FreshPlan(BatchPlan):
    """Batches whose examples have new numbers in every epoch: epoch * examples + index.

    A draw seeded by such a number differs from epoch to epoch. In order (`shuffle=False`), for
    validation, every epoch has the numbers of the first one.
    """

    def order(self, epoch: int) -> list[np.ndarray]:
        """Return the numbers of the examples in every batch of an epoch (counted from 0)."""
        first = epoch * len(self.lengths) if self.shuffle else 0
        return [first + indices for indices in super().order(epoch)]


def pad(rows: Sequence[Sequence[int]], padding_id: int, most: int | None = None) -> np.ndarray:
    """Return int32 (rows, length): the rows, padded at the end with `padding_id`.

    The length is that of the longest row, rounded up to a multiple of 4.

    Args:
        most: an upper limit of the rounded length; a longer row is not cut. None: no limit.
    """
    longest = max(map(len, rows))
    length = _rounded_up(longest)
    if most is not None:
        length = max(longest, min(length, most))
    table = np.full((len(rows), length), padding_id, "int32")
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return table


def _rounded_up(length: int) -> int:
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


class FirstBatches(BatchPlan):
    """The first batches of every epoch of another plan.

    Args:
        plan: the other plan.
        count: number of batches.
    """

    def __init__(self, plan: BatchPlan, count: int) -> None:
        super().__init__(plan.lengths, plan.batch_size, shuffle=plan.shuffle, seed=plan.seed)
        self._plan, self._count = plan, min(count, len(plan))

    def __len__(self) -> int:
        return self._count

    def order(self, epoch: int) -> list[np.ndarray]:
        return self._plan.order(epoch)[: self._count]

    def index(self, example: int) -> int:
        return self._plan.index(example)

    def name(self, example: int) -> str:
        return self._plan.name(example)


class Batches:
    """The batches that `fit` iterates: batch n of all epochs is a function of n.

    `tf_dataset` returns an object that is of this class and a `tf.data.Dataset`. Keras iterates it
    on every backend; each iteration is the next epoch. Interrupted training continues with
    `from_step`. `take`, `prefetch` and `with_options` return such batches as well. All other
    methods, such as `map`, return a plain `tf.data.Dataset`, which has no `from_step`.

    Attributes:
        plan: order of the examples.
        batch: makes the arrays of one batch from the indices of its examples.
        start: (plan, n) -> an endless `tf.data.Dataset` of the batches n, n + 1, … of a plan; a
            third argument makes their arrays in place of `batch`.
        members: (index of an example) -> indices of the rows that it is made of.
        errors: the errors of batches that could not be made.
        per_example: number of rows in the arrays of a batch that an example makes.
        ready: when the next batches were made, by `time.monotonic`; the oldest may be missing.
        rows: number of rows in each array of a batch, the same for all batches. Then
            `batch(indices, host, hosts)` makes only the rows host, host + hosts, … of a batch.
            None: batches are only made whole.
    """

    def __init__(
        self,
        plan: BatchPlan,
        batch: Callable[..., Any],
        start: Callable[..., Any],
        members: Callable[[int], Sequence[int]],
        errors: list[InputError],
        per_example: int = 1,
        ready: collections.deque[float] | None = None,
        rows: int | None = None,
    ) -> None:
        self.rows = rows
        self.ready = collections.deque() if ready is None else ready
        self.plan = plan
        self.batch = batch
        self.start = start
        self.members = members
        self.errors = errors
        self.per_example = per_example

    if TYPE_CHECKING:  # the methods of a `tf.data.Dataset`, which has no types

        def __getattr__(self, name: str) -> Any: ...
        def __iter__(self) -> Iterator[Any]: ...
        def __len__(self) -> int: ...

    def from_step(self, step: int, host: int = 0, hosts: int = 1) -> Any:
        """Return an endless `tf.data.Dataset` of the batches from a step on.

        With several hosts, it has only the rows host, host + hosts, … of each batch, which needs
        `rows`.
        """
        if hosts == 1:
            return self.start(self.plan, step)
        return self.start(self.plan, step, functools.partial(self.batch, host=host, hosts=hosts))

    def tokens(self) -> int:
        """Return the number of tokens in an epoch, without padding; an estimate if the plan has
        only some of the batches."""
        plan = self.plan
        batches = -(-len(plan.lengths) // plan.batch_size)
        return round(int(plan.lengths.sum()) * len(plan) / batches) if batches else 0

    def longest(self) -> int:
        """Return the length of the longest text, padding included."""
        return _rounded_up(int(self.plan.lengths.max()))

    def examples(self, step: int) -> np.ndarray:
        """Return the plan's numbers of the examples in batch `step`, counted over all epochs from
        0."""
        epoch, index = divmod(step, len(self.plan))
        return self.plan.order(epoch)[index]

    def names(self, step: int, rows: Sequence[Any] | None) -> list[str]:
        """Return the names of the examples in a batch: "row 12"; "row 12 + row 15" if an example
        packs two rows; those of the plan if there are no rows.

        Args:
            step: index of the batch, counted over all epochs from 0.
            rows: the row in the file for each index that `members` returns; None: no rows.
        """
        examples = map(int, self.examples(step))
        if rows is None:
            return [self.plan.name(example) for example in examples]
        members = (self.members(self.plan.index(example)) for example in examples)
        return [" + ".join(f"row {rows[m]}" for m in several) for several in members]

    def row_names(self, step: int, rows: Sequence[Any] | None) -> list[str]:
        """Return, for each row in the arrays of a batch, the name of its example; see `names`."""
        return [name for name in self.names(step, rows) for _ in range(self.per_example)]


@contextlib.contextmanager
def own_errors(*datasets: Batches) -> Iterator[None]:
    """Raise the error of a batch itself in place of TensorFlow's error about it.

    Raises:
        InputError: for example, the file of a text is gone.
    """
    try:
        yield
    except Exception:
        for dataset in datasets:
            if dataset.errors:
                raise dataset.errors.pop() from None
        raise


def tf_dataset(
    plan: BatchPlan,
    batch: Callable[..., Any],
    first_epoch: int = 0,
    members: Callable[[int], Sequence[int]] = lambda index: [index],
    per_example: int = 1,
    rows: int | None = None,
) -> Batches:
    """Return the batches of a plan, a `tf.data.Dataset` of known length.

    Args:
        plan, batch, members, per_example, rows: see `Batches`.
        first_epoch: epoch of the first iteration.
    """
    import tensorflow as tf

    example = batch(np.arange(min(plan.batch_size, len(plan.lengths))))
    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec((None,) * array.ndim, array.dtype), example
    )
    epochs, errors = itertools.count(first_epoch), []
    ready: collections.deque[float] = collections.deque(maxlen=_RECORDED)

    def data_set(generate, count):
        def recorded():
            ready.clear()
            try:
                for arrays in generate():
                    ready.append(time.monotonic())
                    yield arrays
            except InputError as error:
                errors.append(error)
                raise

        dataset = tf.data.Dataset.from_generator(recorded, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(4)
        options = tf.data.Options()
        # Otherwise Keras waits up to ten seconds at each epoch's end for the autotune thread.
        options.autotune.enabled = False
        return dataset.with_options(options)

    def next_epoch():
        for indices in plan.order(next(epochs)):
            yield batch(indices)

    def start(plan, step, made=batch):
        def generate():
            epoch, skipped = divmod(step, len(plan))
            for later in itertools.count(epoch):
                for indices in plan.order(later)[skipped if later == epoch else 0 :]:
                    yield made(indices)

        return data_set(generate, tf.data.INFINITE_CARDINALITY)

    made = data_set(next_epoch, len(plan))
    # The base class of all data sets, from which the public `tf.data.Dataset` may derive.
    base = next(c for c in tf.data.Dataset.__mro__ if c.__name__ == "DatasetV2")
    parts = (plan, batch, start, members, errors, per_example, ready, rows)
    return _batches_of(base)(made, *parts)


@functools.cache
def _batches_of(base: Any) -> type:
    """Return the class of `Batches` that are TensorFlow data sets too."""

    class BatchDataset(Batches, base):
        def __init__(self, dataset, *parts):
            self._dataset = dataset
            Batches.__init__(self, *parts)
            base.__init__(self, dataset._variant_tensor)

        def _inputs(self):
            return [self._dataset]

        @property
        def element_spec(self):
            return self._dataset.element_spec

        def replace(self, dataset, plan=None, start=None):
            """Return batches that another data set yields, with the parts of these."""
            parts = (plan or self.plan, self.batch, start or self.start, self.members, self.errors)
            return BatchDataset(dataset, *parts, self.per_example, self.ready, self.rows)

        def take(self, count, name=None):
            plan = self.plan if count < 0 else FirstBatches(self.plan, count)
            return self.replace(self._dataset.take(count, name=name), plan)

        def prefetch(self, buffer_size, name=None):
            return self.replace(self._dataset.prefetch(buffer_size, name=name))

        def with_options(self, options, name=None):
            return self.replace(self._dataset.with_options(options, name=name))

    return BatchDataset
