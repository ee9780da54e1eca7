"""A family of checkpoints: its configuration, and the names of its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError

# How a tensor of a checkpoint differs from our variable: PyTorch's linear layers store (outputs,
# inputs), its convolutions (outputs, channels, height, width); Gemma's norms multiply by 1 + w.
Change = Literal["same", "transposed", "less_one"]
Arrays = Sequence[np.ndarray]

# A task whose models are those of another one in a checkpoint: only the outputs mean another thing.
_SHARED = {"regression": "classification"}


def shared_task(task: str) -> str:
    """Return the task whose architecture and names of weights a task has in a checkpoint."""
    return _SHARED.get(task, task)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One variable of ours and its place in a checkpoint.

    Attributes:
        ours: path of the variable.
        theirs: name of the tensor.
        change: how theirs differs.
    """

    ours: str
    theirs: str
    change: Change = "same"


@dataclasses.dataclass(frozen=True)
class Group:
    """Some variables of ours and some tensors of a checkpoint that hold the same numbers otherwise.

    Attributes:
        ours: paths of the variables.
        theirs: names of the tensors.
        load: their arrays -> ours.
        save: our arrays -> theirs.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    load: Callable[[Arrays], Arrays]
    save: Callable[[Arrays], Arrays]


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        model_types: what config.json calls it.
        tasks: ending of the architecture's name, such as "ForCausalLM" -> task.
        fields: (config.json, task) -> fields of `TransformerConfig`.
        for_task: task -> (config.json) -> the fields that only models of this task have, or other
            values of `fields`; it refuses what only they cannot be.
        layout: (config.json, task) -> `Tensor` and `Group` of every variable that a model of the
            family may have. Of an image model, config["preprocessor"] is preprocessor_config.json.
            The places of an embedder's projections, which no family has, are config["projections"].
        prefix: what the names of a model with a head begin with, and of one without do not.
        heads: beginnings of names that other tasks do without, beside those of `names`.
        same: names of tensors that a model computes with -> those that say the same, and count
            where there is no such tensor.
        also: tasks that its checkpoints serve beside those of their architectures.
        renamed: beginnings of names as other releases have them -> as `layout` has them.
        optional: names of tensors whose variables stay as they begin where they are missing.
        computed: names of tensors that a model here computes -> their numbers, for a shape; a
            checkpoint whose numbers are others is refused.
        only_bases: types whose checkpoints write in the language that a token names, which is not
            given here: they are to be trained before they answer.
        to_config: (`TransformerConfig`, task) -> config.json, the way back. It tells what it has
            words for: whether that is all, `fields` shows.
    """

    model_types: tuple[str, ...]
    tasks: Mapping[str, str]
    fields: Callable[[Mapping[str, Any], str], dict[str, Any]]
    layout: Callable[[Mapping[str, Any], str], list[Tensor | Group]]
    to_config: Callable[[TransformerConfig, str], dict[str, Any]]
    prefix: str = ""
    heads: tuple[str, ...] = ()
    same: Mapping[str, str] = dataclasses.field(default_factory=dict)
    also: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    optional: tuple[str, ...] = ()
    computed: Mapping[str, Callable[[tuple[int, ...]], np.ndarray]] = dataclasses.field(
        default_factory=dict
    )
    only_bases: tuple[str, ...] = ()
    for_task: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = dataclasses.field(
        default_factory=dict
    )

    def read(self, config: Mapping[str, Any], task: str) -> dict[str, Any]:
        """Return the fields of `TransformerConfig` of a checkpoint's config.json.

        Raises:
            InputError: the checkpoint computes something that is not implemented.
        """
        fields = self.fields(config, task)
        further = self.for_task.get(shared_task(task))
        return fields if further is None else fields | further(config)

    @property
    def serves(self) -> frozenset[str]:
        """Tasks that its checkpoints can be read for."""
        own = {*self.tasks.values(), *self.also}
        return frozenset(own | {task for task, shared in _SHARED.items() if shared in own})

    def places(
        self, config: Mapping[str, Any], task: str, paths: Iterable[str]
    ) -> list[Tensor | Group]:
        """Return where each variable of a model stands.

        Args:
            config: of the checkpoint.
            task: of the model.
            paths: of its variables.

        Raises:
            InputError: the family has no place for a variable.
        """
        wanted, found = set(paths), []
        for place in (*self.layout(config, task), *config.get("projections", ())):
            ours = {place.ours} if isinstance(place, Tensor) else set(place.ours)
            if ours <= wanted:
                found.append(place)
                wanted -= ours
        if wanted:
            raise InputError(
                f"a checkpoint of type {config.get('model_type')!r} has no place for "
                f"{min(wanted)}.\n  Such a model cannot be made of one, nor be saved as one."
            )
        return found


# The variables of a layer, by the kind of layer that PyTorch has there.
_LAYERS: dict[str, tuple[tuple[str, str, Change], ...]] = {
    "linear": (("kernel", "weight", "transposed"), ("bias", "bias", "same")),
    # GPT-2 has convolutions of width 1, which are stored as Keras stores a linear layer.
    "conv1d": (("kernel", "weight", "same"), ("bias", "bias", "same")),
    "layer_norm": (("gamma", "weight", "same"), ("beta", "bias", "same")),
    "rms_norm": (("scale", "weight", "same"),),
    "gemma_norm": (("scale", "weight", "less_one"),),
    "table": (("embeddings", "weight", "same"),),
}


def layer(ours: str, theirs: str, kind: str) -> list[Tensor]:
    """Every variable of a layer: of "linear", "conv1d", "layer_norm", "rms_norm", "gemma_norm" or
    "table"."""
    return [Tensor(f"{ours}/{a}", f"{theirs}.{b}", change) for a, b, change in _LAYERS[kind]]


def layers(ours: str, theirs: str, rows: Iterable[tuple[str, str, str]]) -> list[Tensor]:
    """`layer` of each row, with names that begin alike."""
    return [t for a, b, kind in rows for t in layer(ours + a, theirs + b, kind)]


def reshape(ours: str, theirs: str, ahead: int = 1) -> Group:
    """Return the place of a variable to which a checkpoint adds dimensions of 1 in front."""
    return Group(
        (ours,),
        (theirs,),
        lambda arrays: [arrays[0].reshape(arrays[0].shape[ahead:])],
        lambda arrays: [arrays[0].reshape((1,) * ahead + arrays[0].shape)],
    )


def positions_from(first: int, stack: str, theirs: str) -> Group:
    """Learned positions of a stack; in a checkpoint `first` rows that are not used stand ahead."""
    return Group(
        (f"{stack}/positions/embeddings",),
        (theirs,),
        lambda arrays: [arrays[0][first:]],
        lambda arrays: [np.pad(arrays[0], [(first, 0), (0, 0)])],
    )


def fuse(ours: Sequence[str], theirs: str, sizes: Sequence[int]) -> list[Group]:
    """Return the places of linear layers that are one in a checkpoint, outputs side by side.

    Args:
        ours: paths of the layers.
        theirs: name of the one layer.
        sizes: outputs of each of ours.
    """
    ends = np.cumsum(sizes)[:-1]

    def load_kernel(arrays):
        return [part.T for part in np.split(arrays[0], ends)]

    def save_kernel(arrays):
        return [np.concatenate([array.T for array in arrays])]

    def load_bias(arrays):
        return np.split(arrays[0], ends)

    def save_bias(arrays):
        return [np.concatenate(arrays)]

    kernels, biases = (tuple(f"{path}/{name}" for path in ours) for name in ("kernel", "bias"))
    return [
        Group(kernels, (f"{theirs}.weight",), load_kernel, save_kernel),
        Group(biases, (f"{theirs}.bias",), load_bias, save_bias),
    ]


def need(config: Mapping[str, Any], *names: str) -> list[Any]:
    """Values of config.json that a checkpoint cannot do without.

    Raises:
        InputError: one is missing.
    """
    missing = [name for name in names if config.get(name) is None]
    if missing:
        raise InputError(
            f"config.json of type {config.get('model_type')!r} has no {', '.join(missing)}.\n"
            "  Expected the file that `save_pretrained` of Hugging Face transformers writes."
        )
    return [config[name] for name in names]


# Their names of activations; of ours with several the first is written.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation(name: Any) -> str:
    """Our name of an activation.

    Raises:
        InputError: it is none of ours.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InputError(
            f"config.json: the activation is {name!r}.\n  Expected one of {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


def their_activation(name: str) -> str:
    """Their name of one of our activations."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def refuse_other(config: Mapping[str, Any], **expected: Any) -> None:
    """Refuses settings that change what a model computes and that nothing here implements.

    Raises:
        InputError: a setting is there and another than expected.
    """
    for name, value in expected.items():
        if config.get(name) not in (value, None):
            raise InputError(
                f"config.json: {name} is {config[name]!r}.\n  Only {value!r} is implemented."
            )
