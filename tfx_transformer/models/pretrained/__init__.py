"""Models with pre-trained weights: from a Hugging Face folder or hub, keras-hub, or a bundle."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.flags import starting_keras
from tfx_transformer.generation.preprocessors import new_preprocessor
from tfx_transformer.json_files import read_object
from tfx_transformer.models.pretrained.adapter import (
    apply_adapter,
    base_of,
    check_task,
    is_adapter,
)
from tfx_transformer.models.pretrained.checkpoint import Checkpoint, HeadersOf, read_config
from tfx_transformer.models.pretrained.families import count_outputs, family_of, has_head, task_of
from tfx_transformer.models.pretrained.family import Family, shared_task
from tfx_transformer.models.pretrained.hub import ADAPTER, HUB, Repository, download
from tfx_transformer.models.pretrained.named import locate
from tfx_transformer.models.pretrained.names import has_own_head
from tfx_transformer.models.pretrained.refusals import refuse_other_form
from tfx_transformer.models.pretrained.sentence import (
    MODULES,
    Sentence,
    is_cross_encoder,
    projections_of,
    read_sentence,
)
from tfx_transformer.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tfx_transformer.models.base import TransformerModel
    from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM
    from tfx_transformer.models.regressor import Regressor
    from tfx_transformer.models.tagger import Tagger
    from tfx_transformer.models.tasks import CausalLM, Seq2SeqLM

# The task of sentence-transformers models: that of `Embedder`, whose import needs Keras.
_OF_SENTENCES = "embedding"

# Most classes without names of a checkpoint.
_MOST_LABELS = 100_000

# A folder with one of these files has a tokenizer.
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


@overload
def from_pretrained(
    source: Any, dtype: str = "float32", *, task: Literal["causal"], max_length: int | None = None
) -> tuple[CausalLM, Tokenizer | Any]: ...


@overload
def from_pretrained(
    source: Any, dtype: str = "float32", *, task: Literal["seq2seq"], max_length: int | None = None
) -> tuple[Seq2SeqLM, Tokenizer | Any]: ...


@overload
def from_pretrained(
    source: Any, dtype: str = "float32", *, task: Literal["masked"], max_length: int | None = None
) -> tuple[MaskedLM, Tokenizer | Any]: ...


@overload
def from_pretrained(
    source: Any,
    dtype: str = "float32",
    *,
    task: Literal["classification"],
    max_length: int | None = None,
) -> tuple[Classifier, Tokenizer | Any]: ...


@overload
def from_pretrained(
    source: Any,
    dtype: str = "float32",
    *,
    task: Literal["regression"],
    max_length: int | None = None,
) -> tuple[Regressor, Tokenizer | Any]: ...


@overload
def from_pretrained(
    source: Any,
    dtype: str = "float32",
    *,
    task: Literal["embedding"],
    max_length: int | None = None,
) -> tuple[Embedder, Tokenizer | Any]: ...


@overload
def from_pretrained(
    source: Any, dtype: str = "float32", *, task: Literal["tagging"], max_length: int | None = None
) -> tuple[Tagger, Tokenizer | Any]: ...


@overload
def from_pretrained(
    source: Any,
    dtype: str = "float32",
    task: str | None = None,
    max_length: int | None = None,
    base_dtype: str | None = None,
) -> tuple[TransformerModel, Tokenizer | Any]: ...


def from_pretrained(
    source: Any,
    dtype: str = "float32",
    task: str | None = None,
    max_length: int | None = None,
    base_dtype: str | None = None,
) -> tuple[TransformerModel, Tokenizer | Any]:
    """Return a model with pre-trained weights, and its tokenizer.

    Args:
        source: a bundle; a folder that `save_pretrained` of Hugging Face transformers wrote; a name
            of `bases.BASES`, such as "minilm"; "hf://owner/name", which is downloaded into Hugging
            Face's cache; a backbone of keras-hub, or "keras://preset" of one.
        dtype: policy of the model, such as "float32", "bfloat16" or "mixed_bfloat16".
        task: "causal", "seq2seq", "masked", "classification", "regression", "tagging" or
            "embedding"; None: the source's own task.
        max_length: a shorter context than a checkpoint has, in tokens. A bundle keeps its own.
        base_dtype: form of the kernels under adapters: see `add_adapters`. They are read and stored
            one after the other, so memory never holds the whole model in `dtype`. Models of
            keras-hub are not changed.

    Returns: the model, whose class type checkers know if `task` is given; and the tokenizer, or
        None for images and for sources without one.

    Raises:
        InputError: the source is missing, damaged or of an unknown family, it cannot become a
            model of this task, or `base_dtype` is not known.
    """
    with starting_keras():
        from tfx_transformer.models.lora import check_base_dtype
        from tfx_transformer.models.saving import load
    check_base_dtype("from_pretrained", base_dtype)
    if not isinstance(source, (str, os.PathLike)):
        from tfx_transformer.models.pretrained.keras_hub import from_backbone

        return from_backbone(source, dtype, task)
    if str(source).startswith("keras://"):
        from tfx_transformer.models.pretrained.keras_hub import from_preset

        return from_preset(str(source).removeprefix("keras://"), dtype, task)
    path = local_folder(source)
    if is_checkpoint(path):
        return _from_checkpoint(path, dtype, task, max_length, base_dtype)
    refuse_other_form(path)
    return load(path, dtype, task, base_dtype)


def check_source(source: str | os.PathLike) -> None:
    """Raise if `from_pretrained` cannot read a source; Keras is not imported, and no weight is
    fetched or read.

    Raises:
        InputError: the source is missing, or of an unknown family.
    """
    source = locate(str(source))
    if source.startswith("keras://"):
        return
    if source.startswith(HUB):
        Repository.of(source).description()
        return
    path = Path(source)
    if is_checkpoint(path):
        Source.read(path)
        return
    refuse_other_form(path)
    bundle.read_config(path)


def _model_classes() -> dict[str, Any]:
    """Return the model class of each task; the first call imports Keras."""
    with starting_keras():
        from tfx_transformer.models.saving import TASKS

    return TASKS


def local_folder(source: str | os.PathLike) -> Path:
    """Return the folder of a source: itself, or the download of "hf://owner/name"; see `locate`."""
    source = locate(str(source))
    return download(source) if source.startswith(HUB) else Path(source)


def is_checkpoint(path: Path) -> bool:
    """Return True if a folder is one of Hugging Face transformers (by its config.json) or of
    sentence-transformers (by its modules.json), or has an adapter."""
    file = path / bundle.CONFIG
    if (path / MODULES).is_file() or (path / ADAPTER).is_file():
        return True
    return file.is_file() and "model_type" in read_object(file)


def config_of(
    checkpoint: Checkpoint,
    family: Family,
    task: str,
    tokenizer: Tokenizer | None,
    max_length: int | None = None,
    sentence: Sentence | None = None,
) -> TransformerConfig:
    """Return the architecture of a checkpoint as one of our models.

    Args:
        checkpoint: the checkpoint.
        family: its family.
        task: task of the model.
        tokenizer: tokenizer of the checkpoint, if any.
        max_length: a shorter context, in tokens.
        sentence: the parts of sentence-transformers around it, if any.
    """
    values, model = checkpoint.config, _model_classes()[task]
    fields = {**_special_ids(values), **family.read(values, task)}
    if tokenizer is not None:
        fields |= {
            "padding_id": tokenizer.padding_id,
            "start_id": tokenizer.start_id,
            "end_id": tokenizer.end_id,
        }
        if model.writes:  # answers may end with another token than texts (Gemma)
            fields["end_id"] = new_preprocessor(task, tokenizer).end_id
    if model.has_classes:
        fields["num_classes"] = len(labels_of(values, checkpoint.folder))
        # A single output is a score from 0 to 1, like that of one of several labels.
        one = fields["num_classes"] == 1
        fields["multi_label"] = one or values.get("problem_type") == "multi_label_classification"
    if not model.scores_tokens:
        fields["tie_embeddings"] = True  # without a read-out of the vocabulary
    elif has_own_head(checkpoint, family, task):
        fields["tie_embeddings"] = False
    limits = [fields.get("max_sequence_length"), max_length]
    if model.makes_vectors and sentence is not None:
        fields |= sentence.fields
        limits.append(sentence.max_length)
        values["projections"] = projections_of(fields)
    if limits[0]:
        fields["max_sequence_length"] = min(limit for limit in limits if limit)
    return TransformerConfig(**fields)


def labels_of(config: dict[str, Any], folder: Path) -> list[str]:
    """Return the names of the classes: those of `id2label`, else LABEL_0 and so on, `num_labels` or
    two of them."""
    names = config.get("id2label") or {}
    count = config.get("num_labels")
    if not names and isinstance(count, int) and 0 < count <= _MOST_LABELS:
        names = {index: f"LABEL_{index}" for index in range(count)}
    try:
        return [str(names[key]) for key in sorted(names, key=int)] or ["LABEL_0", "LABEL_1"]
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: config.json: id2label is {names!r}.") from error


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder of Hugging Face transformers and its family; the weights are not read yet.

    Attributes:
        folder: folder of config.json and the weights.
        config: its configuration, by `read_config`.
        family: family of the checkpoint.
        own: task of the checkpoint.
        sentence: the parts of sentence-transformers around it, if any.
        adapter: folder of a LoRA adapter for it, if any.
    """

    folder: Path
    config: dict[str, Any]
    family: Family
    own: str
    sentence: Sentence | None
    adapter: Path | None = None

    @classmethod
    def read(cls, path: Path) -> Source:
        """Return the source of a folder; for an adapter's folder, its base with the adapter.

        Raises:
            InputError: its family or one of its parts is unknown; or the base of the adapter is
                missing.
        """
        if is_adapter(path):
            base = cls.read(base_of(path))
            check_task(path, base.own)
            return dataclasses.replace(base, adapter=path)
        sentence = read_sentence(path)
        folder = path if sentence is None else sentence.transformer
        config = read_config(folder)
        family = family_of(config, folder)
        own = task_of(family, config)
        if sentence is not None and _OF_SENTENCES not in family.serves:
            raise InputError(
                f"{path / MODULES}: an embedder around a {config['model_type']} is not known."
            )
        return cls(folder, config, family, own if sentence is None else _OF_SENTENCES, sentence)

    def checkpoint(self, headers_of: HeadersOf | None = None) -> Checkpoint:
        """Return its weights, reading only the headers; `headers_of`: see `Checkpoint`."""
        parts = () if self.sentence is None else self.sentence.dense
        checkpoint = Checkpoint(self.folder, self.config, parts, headers_of)
        if self.adapter is not None:
            apply_adapter(checkpoint, self.adapter)
        return checkpoint

    def tokenizer(self) -> Tokenizer | None:
        """Return the tokenizer of the folder; None for images and without one."""
        if self.config.get("image_size"):
            return None
        own = None if self.adapter is None else read_tokenizer(self.adapter)
        return own or read_tokenizer(self.folder)

    @property
    def lacks_head(self) -> bool:
        """True if the head of its task is new and must be trained."""
        makes_vectors = _model_classes()[self.own].makes_vectors
        return not makes_vectors and not has_head(self.family, self.config)


def _from_checkpoint(
    path: Path,
    dtype: str,
    task: str | None,
    max_length: int | None,
    base_dtype: str | None,
):
    from tfx_transformer.models.encoders import EncoderModel
    from tfx_transformer.models.pretrained.loading import new_model

    source = Source.read(path)  # raises for an unknown family before the weights are read
    family, own = source.family, source.own
    checkpoint = source.checkpoint()
    task = task or own
    model_class = _model_classes().get(task)
    if task != own and not (task in family.serves and issubclass(model_class, EncoderModel)):
        raise InputError(f"{path}: its task is {own!r}.\n  Expected a checkpoint of task {task!r}.")
    if task != own and model_class.has_classes:
        raise InputError(
            f"{path} has no classes of this task.\n  Fine-tune it: pass it to a recipe as --base."
        )
    has_output = shared_task(task) == own and count_outputs(source.config) == 1
    if task != own and model_class.gives_number and not has_output:
        raise InputError(
            f"{path} has no single output.\n  Fine-tune it: recipes/text_regression.py --base."
        )
    tokenizer = source.tokenizer()
    config = config_of(checkpoint, family, task, tokenizer, max_length, source.sentence)
    model = new_model(model_class, config, dtype, family, checkpoint, base_dtype)
    if task == own and source.lacks_head:
        warnings.warn(f"{path}: {no_head(source.config)}", stacklevel=3)
    return model, tokenizer


def import_details(source: str, task: str) -> dict[str, Any]:
    """Return further entries of a bundle's configuration for a checkpoint: the names of its
    classes, "labels", and the count of texts in a row, "text_columns".

    Raises:
        InputError: its head is new, so its answers would mean nothing.
    """
    if source.startswith("keras://"):
        return {}
    path = local_folder(source)
    read = Source.read(path)
    if read.lacks_head:
        raise InputError(
            f"{source}: {no_head(read.config)}\n  Fine-tune it: pass it to a recipe as --base."
        )
    if read.config["model_type"] in read.family.only_bases:
        raise InputError(
            f"{source}: a {read.config['model_type']} needs a token that names the language to "
            "write, which cannot be given here.\n"
            "  Fine-tune it on pairs of two languages: recipes/translation.py --base."
        )
    model = _model_classes()[task]
    if not (model.has_classes or model.gives_number):
        return {}
    labels = {"labels": labels_of(read.config, path)} if model.has_classes else {}
    if not model.pools:
        return labels
    one = len(labels.get("labels", ())) == 1
    scores_pairs = one or is_cross_encoder(path, read.config)
    return labels | ({"text_columns": 2} if scores_pairs else {})


def no_head(config: dict[str, Any]) -> str:
    """Return the warning for a checkpoint without the head of its task."""
    name = (config.get("architectures") or ["the checkpoint"])[0]
    return f"{name} has no head for its task: its head is new and must be trained."


def read_tokenizer(path: Path) -> Tokenizer | None:
    """Return the tokenizer of a folder; None without a file of one."""
    if not any((path / name).is_file() for name in _TOKENIZERS):
        return None
    return Tokenizer.from_pretrained(path)


def _special_ids(config: dict[str, Any]) -> dict[str, int]:
    """Return the padding, start and end ids of config.json, for folders without a tokenizer. A
    missing one is the end id, which a decoder-only model does not confuse."""
    if config.get("image_size"):
        return {}

    def first(name: str, default: int) -> int:
        value = config.get(name)
        value = value[0] if isinstance(value, list) and value else value
        return value if isinstance(value, int) else default

    end = first("eos_token_id", first("sep_token_id", 2))
    padding = first("pad_token_id", end)
    start = first("decoder_start_token_id", first("bos_token_id", end))
    return {"padding_id": padding, "start_id": start, "end_id": end}
