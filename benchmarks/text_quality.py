"""Classification of texts.

`tfx-transformer run text_classification` trains, and the exports classify the official test split;
beside them TF-IDF and logistic regression. "fine-tuned" begins with all-MiniLM-L6-v2, whose folder
is DATA/all-MiniLM-L6-v2; the other cases are trained from scratch. "labelled_text" needs no --data.

    python -m benchmarks text_quality --data DATA

The settings were searched by hand; `python -m benchmarks quality` has the defaults, and students of
a fine-tuned MiniLM.

It takes 1 to 10 minutes a case from scratch on 2 cores, and 4 to 25 fine-tuned. Expect what
benchmarks/README.md says, within what a seed changes: some tenths of a percent, of Aozora two.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from benchmarks import commands
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
NANO = ("--size", "nano")
CLASSIFIER = (*NANO, "--style", "classifier", "--ngram-buckets", "200000")
AVERAGED = ("--average", "0.998", "--patience", "20")
AGREEING = (
    *("--max-length", "64", "--epochs", "12", "--learning-rate", "2e-3", "--dropout", "0.5"),
    *("--consistency", "6", *AVERAGED),
)
MINILM = "all-MiniLM-L6-v2"
FINE_TUNED = ("--base", f"DATA/{MINILM}", "--layer-decay", "0.9")
READER = (
    *("--objective", "masked", "--text", "DATA/classification_en/sst2/train.csv"),
    *("--column", "text", *CLASSIFIER, "--vocabulary-size", "4000", "--context", "64"),
    *("--batch-size", "32", "--steps", "1500", "--validate-every", "250"),
)


def case(name: str, title: str, folder: str, *train: str, reader: bool = False) -> Case:
    """A case on a folder of data with train.csv, test.csv and perhaps dev.csv."""
    files = ["--csv", f"DATA/{folder}/train.csv"]
    if folder.endswith(("sst2", "sms_spam", "ag_news")):
        files += ["--validation", f"DATA/{folder}/dev.csv"]
    settings = {"name": name, "folder": folder, "train": [*files, *train]}
    if reader:
        settings["reader"] = READER
    needed = [folder] + ([MINILM] if FINE_TUNED[1] in train else [])
    return Case(name, title, settings, needed)


CASES = (
    Case("labelled_text", "datasets/labelled_text.csv", {"name": "labelled_text", "train": []}),
    case(
        "sms_spam",
        "SMS spam",
        "classification_en/sms_spam",
        *(*NANO, "--ngram-buckets", "20000", "--max-length", "96", "--epochs", "6"),
        *("--vocabulary-size", "2000", "--learning-rate", "2e-3", "--dropout", "0.3"),
    ),
    case(
        "trec",
        "TREC, 6 classes",
        "classification_en/trec",
        *(*NANO, "--ngram-buckets", "20000", "--max-length", "48", "--epochs", "14"),
        *("--dropout", "0.3", "--token-dropout", "0.1", *AVERAGED),
    ),
    case(
        "sst2",
        "SST-2",
        "classification_en/sst2",
        *(*CLASSIFIER, "--vocabulary-size", "4000", *AGREEING),
    ),
    case(
        "sst2-masked",
        "SST-2, first masked pre-training on its sentences",
        "classification_en/sst2",
        *AGREEING,
        reader=True,
    ),
    case(
        "aozora",
        "Aozora, author (Japanese)",
        "classification_ja/aozora_author",
        *("--share", "0.05", *CLASSIFIER, "--max-length", "224", "--vocabulary-size", "4000"),
        *("--epochs", "14", "--learning-rate", "3e-3", "--dropout", "0.5", "--consistency", "8"),
        *("--average", "0.995", "--patience", "20", "--class-weights", "balanced"),
        *("--weight-decay", "0.3"),
    ),
    case(
        "trec-fine-tuned",
        "TREC, 6 classes, fine-tuned",
        "classification_en/trec",
        *(*FINE_TUNED, "--epochs", "5", "--learning-rate", "1.5e-4", "--max-length", "64"),
    ),
    case(
        "banking77-fine-tuned",
        "banking77, 77 intents, fine-tuned",
        "classification_en/banking77",
        *(*FINE_TUNED, "--epochs", "5", "--learning-rate", "2e-4", "--max-length", "64"),
    ),
    case(
        "ag_news-fine-tuned",
        "AG News, 4 topics, fine-tuned",
        "classification_en/ag_news",
        *(*FINE_TUNED, "--epochs", "4", "--learning-rate", "1.5e-4", "--max-length", "128"),
    ),
    case(
        "sst2-fine-tuned",
        "SST-2, fine-tuned",
        "classification_en/sst2",
        *(*FINE_TUNED, "--epochs", "6", "--learning-rate", "1.5e-4", "--max-length", "64"),
        *("--consistency", "4", "--dropout", "0.1", "--precision", "mixed_bfloat16"),
    ),
)


def files(settings: Settings) -> tuple[Path, Path]:
    """The tables of training and test."""
    if "folder" in settings:
        folder = Path(settings["data"], settings["folder"])
        return folder / "train.csv", folder / "test.csv"
    folder = commands.ROOT / "datasets"
    return folder / "labelled_text.csv", folder / "labelled_text_heldout.csv"


def scores(settings: Settings, variant: str) -> dict[str, float]:
    name, train = settings["name"], list(settings["train"])
    if "reader" in settings:
        base = commands.bundle(settings, "pretraining", f"{name}-reader", *settings["reader"])
        train += ["--base", base]
    bundle = commands.bundle(settings, "text_classification", name, *train)
    flags = commands.engine_flags("litert", variant)
    found = commands.tool(settings, "evaluate", bundle, str(files(settings)[1]), *flags)
    return {
        "right, %": 100 * found["accuracy"],
        "macro-F1, %": 100 * found["macro_f1"],
        "training, minutes": commands.minutes(bundle),
    } | commands.megabytes(bundle, "litert", variant)


def read(settings: Settings) -> tuple[list[list[str]], list[np.ndarray], list[str]]:
    """The texts and the classes of the rows of training and test, and the names of the classes."""
    from tfx_transformer import data

    train, test = (data.read_labelled_texts(str(path)) for path in files(settings))
    names = sorted({label for (label,) in (*train.labels, *test.labels)})
    ids = [np.array([names.index(label) for (label,) in rows.labels]) for rows in (train, test)]
    return [[text for (text,) in rows.texts] for rows in (train, test)], ids, names


def tfidf(settings: Settings) -> dict[str, float]:
    """TF-IDF and logistic regression, trained on the rows of training."""
    from tfx_transformer.evaluation.baselines import tfidf_baseline

    texts, ids, _ = read(settings)
    found = tfidf_baseline(texts[0], ids[0], texts[1], ids[1])
    return {"right, %": 100 * found["accuracy"], "macro-F1, %": 100 * found["macro_f1"]}


SYSTEMS = (
    *(
        System(
            f"tfx-litert-{variant}",
            f"TFLite {variant}",
            functools.partial(scores, variant=variant),
            OURS,
            KERAS,
        )
        for variant in ("float32", "int8")
    ),
    System("tfidf", "TF-IDF + logistic regression", tfidf, ("scikit-learn",)),
)
