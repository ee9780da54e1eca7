"""The figures of docs/quality.md: their data, their settings, and what others reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

MODELS = "saved_models/"
LINES = "unlabelled.txt"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A score that docs/quality.md states.

    Attributes:
        name: for `--only`, and in the kept results.
        section: the table it is in, a key of `SECTIONS`.
        title: the data, as printed.
        recipe: recipe that trains.
        train: its flags but for the seed and the name; "DATA/..." is a path below `--data`, and
            "saved_models/NAME" the model of the figure of that name, with the same seed.
        test: file of the test rows; "": those that the run holds out.
        score: "accuracy"; "BLEU"; "exact", the share of answers equal to the reference; "calls",
            the share of exact tool calls; "preferred", the share of pairs whose chosen answer is
            the likelier one; "loss"; or "Spearman", the correlation of cosines with people's
            scores, times 100.
        seeds: seeds whose mean the figure is.
        minutes: about how long training and exports take for a seed, on 2 quiet cores.
        rows_per_class: training rows of each class to draw; 0: all.
        lines: table and column whose texts are written into the file `LINES`, a text in each line,
            but not those of the test rows.
        evaluate: flags of `evaluate`.
        archive: ZIP archive with the data, unpacked first.
        model: name of the figure whose model is scored, if it is not one of its own.
        aim: score to reach.
        peer: figure of others, with its source.
        note: what limits it, and what was tried.
    """

    name: str
    section: str
    title: str
    recipe: str
    train: Sequence[str]
    test: str
    score: str = "accuracy"
    seeds: Sequence[int] = (1, 2, 3)
    minutes: float = 5
    rows_per_class: int = 0
    lines: Sequence[str] = ()
    evaluate: Sequence[str] = ()
    archive: str = ""
    model: str = ""
    aim: str = ""
    peer: str = ""
    note: str = ""

    @property
    def parents(self) -> list[str]:
        """The names of the figures whose models its training needs: a base or a teacher."""
        return [flag.removeprefix(MODELS) for flag in self.train if flag.startswith(MODELS)]

    @property
    def command(self) -> str:
        """The command that trains the model, as a person types it."""
        named = ("--name", self.name) if self.name in PARENTS else ()
        return " ".join(["tfx-transformer run", self.recipe, *self.train, *named])


SECTIONS = {
    "scratch": "Classifiers of texts, from scratch, by default",
    "base": "Classifiers of texts, `--base minilm`, by default",
    "few": "Classifiers of texts from few rows, `--base minilm`, by default",
    "students": "Students of a fine-tuned MiniLM, by default",
    "images": "Classifiers of images",
    "embedding": "Embedders: Spearman's correlation of cosines with people's scores, times 100",
    "demo": "Translators by default: % of sentences translated exactly",
    "assistants": "Assistants by default: % of answers",
    "translation": "Translators by a preset: BLEU",
    "language": "Language models by a preset: loss",
}

_CASANUEVA = "BERT 93.7 (Casanueva et al. 2020)"
_TEXTS = {
    "trec": ("TREC, 6 classes", "classification_en/trec"),
    "sst2": ("SST-2", "classification_en/sst2"),
    "sms_spam": ("SMS spam", "classification_en/sms_spam"),
    "ag_news": ("AG News, 4,000 rows", "classification_en/ag_news"),
    "banking77": ("banking77, 77 intents", "classification_en/banking77"),
    "aozora": ("Aozora, author (Japanese)", "classification_ja/aozora_author"),
    "counterfactual": (
        "counterfactual reviews (Japanese)",
        "classification_ja/amazon_counterfactual_ja",
    ),
}
_AIMS = {"trec": "96.5", "sst2": "91", "ag_news": "91", "banking77": "93.7"}
_PEERS = {
    "trec": "CNN 91.2 (Kim 2014)",
    "sst2": "CNN 82.7 (Kim 2014)",
    "banking77": _CASANUEVA,
}
_BEFORE = "before gradients of token tables changed on 30 November 2026"
_BY_HAND = {
    "sst2": "91 is within the interval. 90.2 by settings searched by hand "
    f"(benchmarks/README.md), {_BEFORE}.",
    "ag_news": "91 is just above the interval; 400 of the 4,000 rows are held out and choose the "
    f"epoch. 90.4 by `--epochs 4`, {_BEFORE}.",
    "banking77": f"93.1 by `--epochs 5 --learning-rate 2e-4`, {_BEFORE}.",
}
_FEW = {
    5: "a row of each class is held out, so 308 rows are trained on. Trained on all 385, a script "
    "reached 82.1 (below).",
    10: "a row of each class is held out, so 693 rows are trained on. With all 770, logistic "
    "regression on the vectors as loaded reached 85.2 (below).",
}
_STUDENTS = {
    "trec": "92 is not reached. The same model without a teacher has 89.4, so these answers bring "
    "nothing: the teacher learnt the same rows. A student that begins with the teacher's vectors "
    "of words was not clearly better on held-out rows of training ('With a teacher', below).",
}
_MINILM_MINUTES = {"trec": 15, "sst2": 45, "ag_news": 45, "banking77": 50}


def _texts(name: str) -> Figure:
    title, folder = _TEXTS[name]
    return Figure(
        name,
        "scratch",
        title,
        "text_classification",
        ("--csv", f"DATA/{folder}/train.csv"),
        f"DATA/{folder}/test.csv",
        peer=_PEERS.get(name, ""),
    )


def _with_base(name: str, rows: int = 0, aim: str = "", peer: str = "") -> Figure:
    title, folder = _TEXTS[name]
    return Figure(
        f"{name}-{rows}-minilm" if rows else f"{name}-minilm",
        "few" if rows else "base",
        f"{title}, {rows} rows a class" if rows else title,
        "text_classification",
        ("--csv", f"DATA/{folder}/train.csv", "--base", "minilm"),
        f"DATA/{folder}/test.csv",
        minutes=6 if rows else _MINILM_MINUTES[name],
        rows_per_class=rows,
        aim=aim or _AIMS[name],
        peer=peer or _PEERS.get(name, ""),
        note=_FEW.get(rows, "") if rows else _BY_HAND.get(name, ""),
    )


def _student(name: str, aim: str = "", questions: bool = False) -> Figure:
    title, folder = _TEXTS[name]
    train = ("--csv", f"DATA/{folder}/train.csv", "--teacher", f"{MODELS}{name}-minilm")
    return Figure(
        f"{name}-student-questions" if questions else f"{name}-student",
        "students",
        "... with other questions, without labels" if questions else title,
        "text_classification",
        (*train, "--unlabelled", LINES) if questions else train,
        f"DATA/{folder}/test.csv",
        minutes=8 if questions else 5,
        lines=(f"DATA/{_DOLLY}/train.csv", "instruction") if questions else (),
        aim=f"{aim}at most 1.5 points below the teacher",
        peer=_PEERS[name],
        note=f"{LINES} has the column `instruction` of {_DOLLY}/train.csv, a question a line, "
        "but not those of the test rows. 92 is within the interval; 1.5 points below the teacher "
        "are not reached."
        if questions
        else _STUDENTS.get(name, ""),
    )


def _pairs(
    name: str,
    title: str,
    folder: str,
    base: str = "",
    aim: str = "",
    peer: str = "",
    note: str = "",
):
    columns = ("--first", "sentence1", "--second", "sentence2", "--score", "score")
    tables = ("--csv", f"DATA/vectors/{folder}/train.csv")
    checks = ("--validation", f"DATA/vectors/{folder}/dev.csv")
    return Figure(
        name,
        "embedding",
        title,
        "embedding",
        (*tables, *checks, *columns, *(("--base", base) if base else ())),
        f"DATA/vectors/{folder}/test.csv",
        "Spearman",
        minutes=30 if base else 15,
        evaluate=columns,
        aim=aim,
        peer=peer,
        note=note,
    )


_SBERT = "SBERT base 84.7 (Reimers & Gurevych 2019)"
_SETFIT = "SetFit 85.3 with 25 rows"
_CIFAR = "images/cifar10_dcb_small"
_DOLLY = "instruction/dolly_open_qa"
_MULTI30K = "DATA/translation/multi30k_ende"
_ODASHI = "DATA/translation/odashi_enja"
_PAIRS = ("--csv", f"{_MULTI30K}/train.csv", "--validation", f"{_MULTI30K}/val.csv")

FIGURES = (
    Figure(
        "labelled_text",
        "scratch",
        "datasets/labelled_text.csv",
        "text_classification",
        (),
        "datasets/labelled_text_heldout.csv",
        minutes=2,
    ),
    *map(_texts, _TEXTS),
    *map(_with_base, _AIMS),
    _with_base("banking77", 5, "78", _SETFIT),
    _with_base("banking77", 10, "85", _SETFIT),
    _student("trec", "92; "),
    _student("trec", "92; ", questions=True),
    _student("banking77"),
    Figure(
        "drawn",
        "images",
        "datasets/images",
        "image_classification",
        (),
        "datasets/images/test",
        minutes=2,
    ),
    Figure(
        "cifar-900",
        "images",
        "dog, cat, bird of CIFAR-10, 900 images",
        "image_classification",
        ("--images", f"DATA/{_CIFAR}/train.csv"),
        f"DATA/{_CIFAR}/test.csv",
        minutes=8,
        aim="65",
        note="58.3 before there was a linear part, 62.7 before it saw patches. The aim and the "
        "linear model are within the interval, which 300 test images make wide. On 1,500 images of "
        "CIFAR-10's training part that chose nothing, the earlier model had 63.9 and the linear "
        "model 59.5, a difference of 4.5 (2.0 to 6.9).",
    ),
    Figure(
        "cifar-15000",
        "images",
        "... 15,000 images",
        "image_classification",
        ("--preset", "small-images", "--images", "DATA/cifar10_dog_cat_bird/train.csv"),
        "DATA/cifar10_dog_cat_bird/test.csv",
        seeds=(1,),
        minutes=42,
        archive="images/cifar10_dog_cat_bird.zip",
        aim="86",
        note="82.5 with these settings on 27 November 2026; nothing else was tried.",
    ),
    _pairs(
        "stsb",
        "STS-B",
        "stsb_en",
        aim="75",
        note="the aim is not reached; what was tried is below.",
    ),
    _pairs("stsb-ja", "STS-B, Japanese", "stsb_ja", aim="67.73"),
    _pairs("stsb-minilm", "STS-B, `--base minilm`", "stsb_en", "minilm", "85", _SBERT),
    Figure(
        "en_ja",
        "demo",
        "datasets/en_ja.csv, English to Japanese",
        "translation",
        (),
        "datasets/en_ja_heldout.csv",
        "exact",
        minutes=4,
        aim="90",
    ),
    Figure(
        "assistant",
        "assistants",
        "datasets/instructions.csv: exact answers to questions that are not in it",
        "instruction_finetuning",
        (),
        "datasets/instructions_heldout.csv",
        "exact",
    ),
    Figure(
        "preferences",
        "assistants",
        "datasets/preferences.csv: held-out pairs whose chosen answer is the likelier one",
        "preference_finetuning",
        ("--base", f"{MODELS}assistant"),
        "",
        "preferred",
        minutes=2,
        aim="90",
        note="the pairs that the run holds out also decide when it stops.",
    ),
    Figure(
        "preferences-others",
        "assistants",
        "... exact answers of the same model to the questions of the first row",
        "preference_finetuning",
        ("--base", f"{MODELS}assistant"),
        "datasets/instructions_heldout.csv",
        "exact",
        minutes=2,
        model="preferences",
        aim="as the first row",
    ),
    Figure(
        "tools",
        "assistants",
        "datasets/tools.csv: exact tool calls for requests in held-out wordings",
        "tool_calling",
        (),
        "datasets/tools_heldout.csv",
        "calls",
        aim="95",
    ),
    Figure(
        "tatoeba-en-ja",
        "translation",
        "small_parallel_enja, English to Japanese",
        "translation",
        (
            *("--preset", "tatoeba", "--csv", f"{_ODASHI}/train.csv"),
            *("--validation", f"{_ODASHI}/dev.csv"),
        ),
        f"{_ODASHI}/test.csv",
        "BLEU",
        (1,),
        minutes=45,
        evaluate=("--beams", "4", "--tokenize", "none"),
        aim="41",
        peer="GRU with attention: about 37 (a practice repository)",
        note=f"39.5 with these settings, {_BEFORE}.",
    ),
    Figure(
        "multi30k-en-de",
        "translation",
        "Multi30k, English to German, test2016",
        "translation",
        ("--preset", "multi30k", *_PAIRS),
        f"{_MULTI30K}/test_2016_flickr.csv",
        "BLEU",
        (1,),
        minutes=60,
        evaluate=("--beams", "4", "--tokenize", "13a"),
        aim="42",
        peer="Transformer-Tiny 41.0, tokenised (Wu et al. 2021)",
        note="the aim is not reached: 4 beams, since the files of a run decode with 1 or 4; with 1 "
        "beam 37.1, with 4 in lower case 38.3. sacreBLEU's signature: nrefs:1|case:mixed|eff:no|"
        "tok:13a|smooth:exp|version:2.6.0. The reference scored tokenised text. Size and dropout "
        "are those of Wu et al. (2021), with 30 epochs; in the last five the validation loss fell "
        "by 0.02. Other settings were not tried.",
    ),
    Figure(
        "multi30k-de-en",
        "translation",
        "Multi30k, German to English, test2016",
        "translation",
        ("--preset", "multi30k", *_PAIRS, "--source", "target", "--target", "source"),
        f"{_MULTI30K}/test_2016_flickr.csv",
        "BLEU",
        (1,),
        minutes=60,
        evaluate=(
            *("--source", "target", "--target", "source"),
            *("--beams", "4", "--tokenize", "13a"),
        ),
        aim="39",
        peer="Transformer 36.5, words, greedy (bentrevett/pytorch-seq2seq)",
    ),
    Figure(
        "tinyshakespeare",
        "language",
        "tinyshakespeare, loss in nats per character",
        "pretraining",
        (
            *("--preset", "nanogpt-cpu", "--text", "DATA/lm/tinyshakespeare_train.txt"),
            *("--validation", "DATA/lm/tinyshakespeare_val.txt"),
        ),
        "DATA/lm/tinyshakespeare_val.txt",
        "loss",
        minutes=2,
        aim="1.58 or less",
        peer="nanoGPT 1.88 (its README)",
        note="1.35 times the operations of nanoGPT, since the feed-forward layers are "
        "gated. Other settings were not tried.",
    ),
)

BY_NAME = {figure.name: figure for figure in FIGURES}
# Names of the figures whose models are the base or the teacher of another one.
PARENTS = {name for figure in FIGURES for name in figure.parents}
