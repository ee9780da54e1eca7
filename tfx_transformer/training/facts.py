"""Facts of a training for the model card: counts and names, but no rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import bases
from tfx_transformer.text.scripts import KANA

# Settings with a few choices, whose values reveal nothing about the data; numbers are kept too.
_CHOICES = ("objective", "size", "style", "pooling", "method", "precision", "class_weights",
            "loss_on", "loss", "base_dtype")  # fmt: skip
_UNWANTED = ("overwrite", "save_minutes", "minutes")

# At most about so many texts are read; a language is named if this share of them is in it.
_TEXTS = 2000
_SHARE = 0.1
_HANGUL = re.compile("[\uac00-\ud7a3]")
# Words that few other languages have.
_ENGLISH = re.compile(r"\b(the|is|are|was|this|that|with|they|you|what|my|she|he|it)\b", re.I)


def facts_of_data(summaries: Sequence[Any], texts: Sequence[str] = ()) -> dict[str, Any]:
    """Return "rows", "held_out_rows", "tokens", "columns" and "languages" of the data.

    Args:
        summaries: summary of the training data, then of the validation.
        texts: training texts; English, Japanese and Korean are recognised by their letters and
            words, other languages are not.
    """
    figures = [summary.to_dict() for summary in summaries]
    facts: dict[str, Any] = {"rows": _rows(figures[0])}
    if len(figures) > 1:
        facts["held_out_rows"] = _rows(figures[1])
    facts["tokens"] = figures[0].get("tokens")
    columns = figures[0].get("columns") or {}
    facts["columns"] = list(columns.values()) if isinstance(columns, Mapping) else []
    facts["languages"] = languages_of(texts)
    return {name: value for name, value in facts.items() if value}


def languages_of(texts: Sequence[str]) -> list[str]:
    """Return "en", "ja" and "ko" if a tenth or more of the texts are in that language."""
    some = list(texts[:: max(1, len(texts) // _TEXTS)])
    found = []
    for code, pattern in (("en", _ENGLISH), ("ja", KANA), ("ko", _HANGUL)):
        if some and sum(bool(pattern.search(text)) for text in some) >= _SHARE * len(some):
            found.append(code)
    return found


def facts_of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are numbers, or one of a few choices."""
    return {
        name: value
        for name, value in settings.items()
        if name not in _UNWANTED
        and (isinstance(value, int | float) or (name in _CHOICES and value))
    }


def name_of_source(source: str) -> str:
    """Return the name of a model for the card: its name on the hub, or that of its folder, without
    the path on this machine."""
    return _name_on_hub(source) or Path(source.rstrip("/")).name


def base_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return "base", the model on the hub that a run started from; {} if it used none."""
    name = _name_on_hub(str(settings.get("base") or ""))
    return {"base": name} if name else {}


def _name_on_hub(source: str) -> str:
    """Return "owner/name" of a model on the hub; "" for another one."""
    named = None if Path(source).exists() else bases.find(source)
    source = source if named is None else named.source
    return source.removeprefix("hf://").partition("@")[0] if source.startswith("hf://") else ""


def advise_base(
    settings: Mapping[str, Any], recipe: str, facts: Mapping[str, Any], classes: int = 1
) -> list[str]:
    """Return the line of a run's plan about the base that probably helps; [] if the run has one, or
    if nothing like it was measured.

    Args:
        settings: settings of the run.
        recipe: name of its recipe.
        facts: from `facts_of_data`.
        classes: classes of the model.
    """
    if settings.get("base"):
        return []
    languages, rows = facts.get("languages") or [], facts.get("rows") or 0
    found = bases.expected_gain(recipe, languages, rows, classes)
    if found is None:
        return []
    base, figure = found
    return [
        f"base        --base {base.name} may help: {figure.score:.1f} instead of "
        f"{figure.alone:.1f} {figure.measure} on {figure.data}"
    ]


def texts_of(read: Any) -> Sequence[str]:
    """Return the texts of the data; [] for images and token files."""
    for name in ("flat_texts", "texts"):
        if callable(method := getattr(read, name, None)):
            return list(method())
    return []


def _rows(figures: Mapping[str, Any]) -> int | None:
    return next((figures[n] for n in ("rows", "images", "documents") if figures.get(n)), None)
