"""A family of checkpoints: its configuration, and the names of its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError

# The change between our variable and a checkpoint's tensor: PyTorch's linear layers store (outputs,
# inputs), its convolutions (outputs, channels, height, width); Gemma's norms multiply by 1 + w.
Change = Literal["same", "transposed", "less_one"]
Arrays = Sequence[np.ndarray]

# Task -> the task with the same checkpoints, whose outputs have another meaning.
_SHARED = {"regression": "classification"}


def shared_task(task: str) -> str:
    """Return the task that has the same architecture and weight names in a checkpoint."""
    return _SHARED.get(task, task)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One variable of ours and its place in a checkpoint.

    Attributes:
        ours: path of the variable.
        theirs: name of the tensor.
        change: difference of theirs from ours.
    """

    ours: str
    theirs: str
    change: Change = "same"


@dataclasses.dataclass(frozen=True)
class Group:
    """Variables of ours and tensors of a checkpoint that have the same numbers in another form.

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
        model_types: its values of `model_type` in config.json.
        tasks: ending of the architecture's name, such as "ForCausalLM" -> task.
        fields: (config.json, task) -> fields of `TransformerConfig`.
        for_task: task -> (config.json) -> fields that only models of this task have, or other
            values of `fields`; raises for settings that only this task cannot have.
        layout: (config.json, task) -> `Tensor` and `Group` of every variable that a model of the
            family may have. For an image model, config["preprocessor"] is preprocessor_config.json.
            The places of an embedder's projections are config["projections"].
        prefix: beginning of the names in a model with a head; without a head they lack it.
        heads: beginnings of the names of further heads, in addition to those of `names`.
        same: names of tensors that a model computes with -> names of the same tensors, which are
            read if the first are missing.
        also: further tasks of its checkpoints, in addition to those of their architectures.
        renamed: beginnings of names in other releases -> those in `layout`.
        optional: names of tensors that may be missing: their variables keep their initial values.
        computed: names of tensors that a model here computes -> (shape) -> their numbers; a
            checkpoint with other numbers is refused.
        only_bases: types whose checkpoints need a token that names the language to write, which
            cannot be given here: they must be trained before they answer.
        to_config: (`TransformerConfig`, task) -> config.json. It may not express all of a
            configuration: compare `fields` of the result.
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
        """The tasks that its checkpoints can be read for."""
        own = {*self.tasks.values(), *self.also}
        return frozenset(own | {task for task, shared in _SHARED.items() if shared in own})

    def places(
        self, config: Mapping[str, Any], task: str, paths: Iterable[str]
    ) -> list[Tensor | Group]:
        """Return the place of each variable of a model.

        Args:
            config: config.json of the checkpoint.
            task: task of the model.
            paths: paths of its variables.

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


# The variables of a layer, by the kind of layer in PyTorch.
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
    """Return all variables of a layer of kind "linear", "conv1d", "layer_norm", "rms_norm",
    "gemma_norm" or "table"."""
    return [Tensor(f"{ours}/{a}", f"{theirs}.{b}", change) for a, b, change in _LAYERS[kind]]


def layers(ours: str, theirs: str, rows: Iterable[tuple[str, str, str]]) -> list[Tensor]:
    """Return `layer` of each row, with these prefixes of the names."""
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
    """Return the place of a stack's learned positions; a checkpoint has `first` unused rows before
    them."""
    return Group(
        (f"{stack}/positions/embeddings",),
        (theirs,),
        lambda arrays: [arrays[0][first:]],
        lambda arrays: [np.pad(arrays[0], [(first, 0), (0, 0)])],
    )


def fuse(ours: Sequence[str], theirs: str, sizes: Sequence[int]) -> list[Group]:
    """Return the places of linear layers that a checkpoint has as one, with outputs side by side.

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
    """Return values of config.json that a checkpoint must have.

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


# Their names of activations -> ours; the first of several names for ours is written.
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
    """Return our name of an activation.

    Raises:
        InputError: we do not have it.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InputError(
            f"config.json: the activation is {name!r}.\n  Expected one of {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


def their_activation(name: str) -> str:
    """Return their name of one of our activations."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def refuse_other(config: Mapping[str, Any], **expected: Any) -> None:
    """Raise if settings that change the computation have values that are not implemented here.

    Raises:
        InputError: a setting is present and not the expected one.
    """
    for name, value in expected.items():
        if config.get(name) not in (value, None):
            raise InputError(
                f"config.json: {name} is {config[name]!r}.\n  Only {value!r} is implemented."
            )
