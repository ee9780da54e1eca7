"""The description of a checkpoint and its uses, before its weights are read."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import keras

from tfx_transformer.models.lora import base_bytes
from tfx_transformer.models.pretrained import Source, config_of, labels_of
from tfx_transformer.models.pretrained.adapter import is_adapter
from tfx_transformer.models.pretrained.checkpoint import HeadersOf
from tfx_transformer.models.pretrained.hub import ADAPTER_WEIGHTS, HUB, Repository
from tfx_transformer.models.pretrained.loading import check_names
from tfx_transformer.models.pretrained.named import locate
from tfx_transformer.models.saving import TASKS

# Uses of a model by its task: recipes, then verbs.
_USES = {
    "causal": "instruction_finetuning, preference_finetuning, pretraining; generate, export to "
    "litert and litertlm",
    "seq2seq": "translation; generate, export to litert",
    "masked": "text_classification, embedding, pretraining --objective masked",
    "embedding": "embedding, text_classification; embed, similar, export to litert",
    "classification": "text_classification, embedding; classify, export to litert",
    "regression": "text_regression, embedding; predict, export to litert",
    "tagging": "tagging, embedding; tag, export to litert",
    "images": "image_classification; classify, export to litert",
}


@dataclasses.dataclass(frozen=True)
class Description:
    """Facts of a checkpoint; memory in bytes."""

    source: str
    family: str
    architecture: str
    task: str
    parameters: int
    stored_bytes: int
    layers: int
    hidden_dim: int
    context: int
    vocabulary_size: int
    tokenizer: str | None
    chat: bool
    labels: list[str]
    licence: str | None
    uses: str
    memory: dict[str, int]

    def lines(self) -> list[str]:
        """Return the facts as lines for a terminal."""
        reads = f"{self.context:,} tokens of {self.vocabulary_size:,}"
        if not self.vocabulary_size:
            reads = f"images as {self.context:,} vectors"
        tokenizer = self.tokenizer or "none in the folder"
        lines = [
            f"source      {self.source}",
            f"family      {self.family}, {self.architecture}: a model of task {self.task}",
            f"size        {self.parameters:,} parameters, {self.stored_bytes / 1e6:,.1f} MB stored;"
            f" {self.layers} layers of {self.hidden_dim}",
            f"reads       {reads}",
            f"tokenizer   {tokenizer}{', with a chat template' if self.chat else ''}",
            f"licence     {self.licence or 'not stated: see its source'}",
            f"use         {self.uses}",
        ]
        if self.labels:
            shown = ", ".join(self.labels[:8])
            more = f" and {len(self.labels) - 8:,} more" if len(self.labels) > 8 else ""
            lines.insert(5, f"labels      {shown}{more}")
        for name, size in self.memory.items():
            lines.append(f"memory      {size / 1e9:>6.2f} GB  {name}")
        return lines

    def to_dict(self) -> dict:
        """Return the facts as JSON values."""
        return dataclasses.asdict(self)


def describe_source(source: str) -> Description:
    """Return the description of a folder, or of a model on the hub without fetching its weights;
    `source` may be the name of a base.

    Raises:
        InputError: see `describe` and `Repository`.
    """
    place = locate(source)
    if not place.startswith(HUB):
        return describe(Path(place), source)
    repository = Repository.of(place)
    folder, sizes = repository.description()
    if is_adapter(folder) and ADAPTER_WEIGHTS in sizes and "model.safetensors" not in sizes:
        return describe(repository.whole(), source)  # small, and read with its base
    return describe(folder, source, lambda part: repository.headers_of(folder, part, sizes))


def describe(folder: Path, source: str, headers_of: HeadersOf | None = None) -> Description:
    """Return the description of a folder of Hugging Face transformers. Only the headers of the
    weights are read: names and shapes are checked, but not the numbers.

    Args:
        folder: the folder.
        source: the user's name for it.
        headers_of: see `Checkpoint`.

    Raises:
        InputError: see `Checkpoint`, `family_of` and `Tokenizer.from_pretrained`.
    """
    read = Source.read(folder)
    family, task, checkpoint = read.family, read.own, read.checkpoint(headers_of)
    values, image = read.config, bool(read.config.get("image_size"))
    tokenizer = read.tokenizer()
    config = config_of(checkpoint, family, task, tokenizer, sentence=read.sentence)
    model = check_names(TASKS[task], config, family, checkpoint)
    parameters = sum(tensor.size for tensor in checkpoint.tensors.values())
    stored = sum(t.size * t.dtype.itemsize for t in checkpoint.tensors.values())
    return Description(
        source=source,
        family=str(checkpoint.config["model_type"]),
        architecture=(checkpoint.config.get("architectures") or ["not named"])[0],
        task=task,
        parameters=parameters,
        stored_bytes=stored,
        layers=config.num_layers,
        hidden_dim=config.hidden_dim,
        context=config.max_sequence_length,
        vocabulary_size=config.vocabulary_size,
        tokenizer=None if tokenizer is None else _kind(tokenizer),
        chat=tokenizer is not None and tokenizer.chat_template is not None,
        labels=labels_of(values, folder) if TASKS[task].has_classes else [],
        licence=licence_of(folder),
        uses=_USES["images" if image else task],
        memory=_memory(model),
    )


def licence_of(folder: Path) -> str | None:
    """Return the `license` of the model card, README.md, or None."""
    file = folder / "README.md"
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(65_536)
    card = re.match(r"---\n(.*?)\n---", head, re.DOTALL)
    found = card and re.search(r"^license: *[\"']?([^\"'\n]+)", card[1], re.MULTILINE)
    return found[1].strip() if found else None


def _kind(tokenizer) -> str:
    runs = "tiktoken" if hasattr(tokenizer, "tiktoken") else "tokenizers"
    return f"{tokenizer.vocabulary_size:,} tokens, run by {runs}"


def _memory(model: keras.Model) -> dict[str, int]:
    """Return the bytes of weights, gradients and AdamW's moments, without activations.

    Args:
        model: a float32 model, which may have been made without memory.
    """
    weights = base_bytes(model, None)
    return {
        "to run in float32": weights,
        "to fine-tune in full": 4 * weights,
        "to fine-tune adapters of float32 weights": weights,
        "to fine-tune adapters with --base-dtype int8": base_bytes(model, "int8"),
        "to fine-tune adapters with --base-dtype nf4": base_bytes(model, "nf4"),
    }
