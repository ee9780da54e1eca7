"""Training speed of a classifier of texts, from a CSV.

A step reads 256 rows of a CSV, tokenizes them, and trains an encoder of MiniLM's shape (6 layers of
384, 12 heads, 30,522 tokens, random weights) for an epoch: 8 steps of 32 texts, at most 64 tokens
each, AdamW, dropout 0.1; texts per second.

    python -m benchmarks train_classifier --data DATA --rounds 3

It takes about 15 minutes on 2 cores. Expect systems that pad to the longest text of a batch to
lead. The folder `all-MiniLM-L6-v2` in DATA has the vocabulary. Each system pads as it does by
default: ours and Hugging Face's Trainer to the longest text of a batch, keras-hub to 64 tokens.
PyTorch's Trainer is not compiled: it would compile anew for each length.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks import shapes
from benchmarks.encoder import HEADS, LAYERS, VOCABULARY, WIDTH
from benchmarks.tables import Case, Settings, System
from benchmarks.train_systems import DECAY, RATE, keras_systems

UNIT = "texts/s"
ROWS, BATCH, LENGTH = 256, 32, 64
MINILM = "all-MiniLM-L6-v2"

CASES = tuple(
    Case(
        name,
        title,
        {"table": f"{folder}/train.csv", "labels": labels},
        (f"{folder}/train.csv", f"{MINILM}/vocab.txt"),
    )
    for name, title, folder, labels in (
        ("ag-news", "AG News, about 50 tokens a text", "classification_en/ag_news", 4),
        ("sst2", "SST-2, about 25 tokens a text", "classification_en/sst2", 2),
    )
)


def table(settings: Settings) -> Path:
    """A CSV with `ROWS` drawn rows of the case's table: text and label."""
    source = Path(settings["data"], settings["table"])
    file = shapes.work_file(settings, f"train-classifier-{source.parent.name}.csv")
    if not file.exists():
        with source.open(encoding="utf-8", newline="") as rows:
            texts = [(row["text"], row["label"]) for row in csv.DictReader(rows)]
        drawn = np.random.default_rng(0).permutation(len(texts))[:ROWS]
        unfinished = file.with_suffix(".part")
        with unfinished.open("w", encoding="utf-8", newline="") as rows:
            csv.writer(rows).writerows([("text", "label"), *(texts[index] for index in drawn)])
        unfinished.rename(file)
    return file


def read(settings: Settings) -> tuple[list[str], list[int]]:
    """The texts, and the indices of their labels, by Python's csv."""
    with table(settings).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    return [row["text"] for row in rows], [names.index(row["label"]) for row in rows]


def tfx_epoch(settings: Settings):
    """Our model, and a function that trains it for an epoch."""
    import tfx_transformer as tfx

    config = tfx.TransformerConfig.of_size(
        "tiny",
        VOCABULARY,
        "bert",
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        max_sequence_length=LENGTH,
        num_classes=settings["labels"],
        dropout=0.1,
    )
    tokenizer = tfx.Tokenizer.from_pretrained(Path(settings["data"], MINILM))
    model = tfx.Classifier(config)

    def epoch():
        rows = tfx.data.read_labelled_texts(table(settings), "text", "label")
        names = tfx.data.label_names(rows.labels, rows.path)
        batches = tfx.data.labelled_texts(
            rows, tokenizer, names, batch_size=BATCH, max_length=LENGTH, seed=1
        )
        return model.fit(batches, epochs=1, verbose=0)

    return model, epoch


def keras_hub_epoch(settings: Settings):
    """keras-hub's model, and a function that trains it for an epoch."""
    import keras_hub

    vocabulary = str(Path(settings["data"], MINILM, "vocab.txt"))
    model = keras_hub.models.BertTextClassifier(
        keras_hub.models.BertBackbone(
            vocabulary_size=VOCABULARY,
            num_layers=LAYERS,
            num_heads=HEADS,
            hidden_dim=WIDTH,
            intermediate_dim=4 * WIDTH,
            dropout=0.1,
            max_sequence_length=LENGTH,
        ),
        num_classes=settings["labels"],
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            keras_hub.tokenizers.BertTokenizer(vocabulary, lowercase=True), sequence_length=LENGTH
        ),
    )

    def epoch():
        texts, labels = read(settings)
        return model.fit(np.array(texts), np.array(labels), batch_size=BATCH, epochs=1, verbose=0)

    return model, epoch


def fit(settings: Settings, build, jit_compile: bool | str, policy: str):
    """Epochs of the model that `build` makes."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model, epoch = build(settings)
    model.compile(
        keras.optimizers.AdamW(RATE / 10, weight_decay=DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[],
        jit_compile=jit_compile,
    )

    def step() -> int:
        assert np.isfinite(epoch().history["loss"][-1])
        return ROWS

    return step


def trainer(settings: Settings, bfloat16: bool):
    """Hugging Face's Trainer."""
    import tempfile

    import transformers

    shapes.torch_with(settings["threads"])
    folder = Path(settings["data"], MINILM)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=VOCABULARY,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=LENGTH,
            num_labels=settings["labels"],
        )
    )
    arguments = transformers.TrainingArguments(
        output_dir=tempfile.mkdtemp(dir=settings["work"]),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=RATE / 10,
        weight_decay=DECAY,
        use_cpu=True,
        bf16=bfloat16,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    collator = transformers.DataCollatorWithPadding(tokenizer)

    def step() -> int:
        texts, labels = read(settings)
        ids = tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
        rows = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]
        done = transformers.Trainer(
            model=model, args=arguments, train_dataset=rows, data_collator=collator
        ).train()
        assert np.isfinite(done.training_loss)
        return ROWS

    return step


def _trainer_float32(settings: Settings):
    return trainer(settings, bfloat16=False)


def _trainer_bfloat16(settings: Settings):
    return trainer(settings, bfloat16=True)


# Without the package datasets, the Trainer takes the folder of that name here for it.
_TRAINER = ("torch", "transformers", "accelerate", "datasets")
SYSTEMS = (
    *keras_systems(
        fit,
        ("tfx", "ours, Keras", tfx_epoch, ()),
        ("keras-hub", "keras-hub", keras_hub_epoch, ("keras-hub",)),
    ),
    System("torch-trainer-bf16", "Hugging Face Trainer, bfloat16", _trainer_bfloat16, _TRAINER),
    System("torch-trainer", "Hugging Face Trainer", _trainer_float32, _TRAINER),
)
