"""The verbs embed and similar: texts as vectors, and how near they are to each other."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import files
from tfx_transformer.arguments import refuse_files
from tfx_transformer.cli.engines import read_texts
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

SHOWN_NUMBERS = 6

# Texts, and perhaps `prompt`, to vectors, float32 (texts, dimensions).
Embed = Callable[..., Any]


def embed(chosen: argparse.Namespace) -> dict[str, Any]:
    """make a vector of each text: print it, or save all of them"""
    check_files(chosen, "save")
    texts = read_texts(chosen.texts, chosen)
    make, method = embedder(chosen)
    vectors = make(texts)
    print(f"vectors of {vectors.shape[1]:,} numbers: {method}")
    result = {"texts": len(texts), "dimensions": vectors.shape[1], "method": method}
    if chosen.save:
        save_vectors(chosen.save, vectors, texts)
        print(f"saved: {chosen.save}")
        return result | {"file": chosen.save}
    for text, vector in zip(texts, vectors, strict=True):
        numbers = " ".join(f"{x:+.3f}" for x in vector[:SHOWN_NUMBERS])
        print(f"{numbers}{' …' if len(vector) > SHOWN_NUMBERS else ''}  {text}")
    return result | {"vectors": vectors.tolist()}


def similar(chosen: argparse.Namespace) -> dict[str, Any]:
    """compare texts, find the nearest rows of a CSV, or score similarity against people's"""
    check_files(chosen, "picture")
    scored = (chosen.first, chosen.second, chosen.score)
    if chosen.row_prompt is not None and (any(scored) or not chosen.csv):
        raise InputError(
            "--row-prompt is of rows that are searched.\n"
            "  Give TEXT and --csv FILE.csv --column COLUMN, or use --prompt alone."
        )
    if any(scored):
        if chosen.picture:
            raise InputError("--picture draws texts. Pairs have no picture.\n  Drop it.")
        if not all(scored) or not chosen.csv or chosen.texts:
            raise InputError(
                "scored pairs are read from a file.\n"
                "  Give [BUNDLE] --csv FILE.csv --first COLUMN --second COLUMN --score COLUMN."
            )
        return _evaluate(chosen)
    if not chosen.bundle:
        raise InputError("name a bundle.\n  See: tfx-transformer similar --help")
    remedy = "The rows of a table are searched with --csv FILE.csv --column COLUMN."
    refuse_files(chosen.texts, remedy, chosen.as_text)
    if chosen.csv:
        if not chosen.texts or chosen.count < 1:
            raise InputError("a search needs a text and a --count of 1 or more.\n  Give both.")
        return _search(chosen)
    if len(chosen.texts) < 2:
        raise InputError(
            f"{quantity(len(chosen.texts), 'text')} cannot be compared.\n"
            "  Give two or more to compare, or --csv FILE.csv --column COLUMN to search."
        )
    return _compare(chosen)


def _compare(chosen: argparse.Namespace) -> dict[str, Any]:
    from tfx_transformer.vectors import MEASURES, cosine

    make, method = embedder(chosen)
    vectors = make(chosen.texts)
    print(method)
    if len(vectors) > 2:
        values = {"texts": chosen.texts, "cosine": cosine(vectors, vectors).tolist()}
        for text, row in zip(chosen.texts, values["cosine"], strict=True):
            print(" ".join(f"{value:>7.4f}" for value in row), f" {text}")
    else:
        values = {n: measure(vectors[:1], vectors[1:]).item() for n, measure in MEASURES.items()}
        for name, value in values.items():
            print(f"{name:<10} {value:>10.4f}{'°' if name == 'angle' else ''}")
    _draw_cosines(chosen, vectors, chosen.texts)
    return {"method": method} | values


def _draw_cosines(chosen: argparse.Namespace, vectors, texts: Sequence[str]) -> None:
    """Draws the cosine of each text with each, if that is wanted."""
    if chosen.picture:
        from tfx_transformer.pictures import similarity_matrix
        from tfx_transformer.vectors import cosine

        title = f"Cosines by {Path(chosen.bundle).name}"
        similarity_matrix(chosen.picture, cosine(vectors, vectors), texts, title)
        print(f"drawn: {chosen.picture}")


def _search(chosen: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from tfx_transformer.data.tables import read_table
    from tfx_transformer.vectors import nearest

    table = read_table(chosen.csv, {"text": chosen.column})
    texts = table.columns["text"]
    make, method = embedder(chosen)
    queries = make(chosen.texts)
    vectors = make(texts, prompt=chosen.row_prompt)
    print(f"{quantity(len(texts), 'row')}: {method}")
    results = []
    found, cosines_found = nearest(queries, vectors, chosen.count)
    for query, indices, cosines in zip(chosen.texts, found, cosines_found, strict=True):
        print(query)
        neighbours = [
            {"row": table.rows[index], "cosine": float(cosine), "text": texts[index]}
            for index, cosine in zip(indices, cosines, strict=True)
        ]
        for near in neighbours:
            print(f"  {near['cosine']:>7.4f}  row {near['row']:>6,}  {near['text']}")
        results.append({"query": query, "nearest": neighbours})
    rows = list(dict.fromkeys(found.ravel().tolist()))
    shown = np.concatenate([queries, vectors[rows]])
    _draw_cosines(chosen, shown, [*chosen.texts, *(texts[row] for row in rows)])
    return {"method": method, "results": results}


def _evaluate(chosen: argparse.Namespace) -> dict[str, Any]:
    """Spearman's correlation of each kind of vector with people's scores."""
    import numpy as np

    from tfx_transformer.vectors import DocumentVectors, spearman, unit

    first, second, scores = _scored_pairs(chosen)
    results = {}
    for name, weighting in (("bag of words", "count"), ("TF-IDF", "tf_idf")):
        vectors = DocumentVectors.fit([*first, *second], weighting)
        results[name] = spearman(vectors.cosines(first, second), scores)
    method = None
    if chosen.prompt is not None and not chosen.bundle:
        raise InputError("--prompt is of an embedder.\n  Name its bundle, or drop the flag.")
    if chosen.bundle:
        make, method = embedder(chosen)
        vectors = unit(make([*first, *second]))
        cosines = np.sum(vectors[: len(first)] * vectors[len(first) :], axis=1)
        results[Path(chosen.bundle).name] = spearman(cosines, scores)
    pairs = quantity(len(scores), "pair")
    print(f"{pairs} of {chosen.csv}; Spearman's correlation with {chosen.score!r}:")
    for name, value in results.items():
        print(f"  {100 * value:>6.2f}  {name}")
    if method:
        print(f"{Path(chosen.bundle).name}: {method}")
    results = {name: None if np.isnan(value) else value for name, value in results.items()}
    return {"pairs": len(scores), "spearman": results, "method": method}


def _scored_pairs(chosen: argparse.Namespace) -> tuple[list[str], list[str], list[float]]:
    from tfx_transformer.data.tables import read_table

    roles = {"first": chosen.first, "second": chosen.second, "score": chosen.score}
    table = read_table(chosen.csv, roles)
    scores = []
    for row, cell in zip(table.rows, table.columns["score"], strict=True):
        try:
            scores.append(float(cell))
        except ValueError:
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise InputError(
                f"{chosen.csv}, row {row}: column {chosen.score!r} is {cell!r}, not a number.\n"
                "  Expected how similar the two texts are, such as 3.5."
            )
    return table.columns["first"], table.columns["second"], scores


def embedder(chosen: argparse.Namespace) -> tuple[Embed, str]:
    """Return what makes vectors of texts by the bundle that was chosen, and what to call it.

    It puts the prompt of `--prompt` before each text, or the one it is called with. A bundle of
    another task than embedding was not trained to give one vector for a text; the mean of its last
    states serves, by Keras.
    """
    from tfx_transformer import bundle
    from tfx_transformer.runtime.tasks import TASKS

    config = bundle.read_config(chosen.bundle)
    if config["architecture"].get("image_size"):
        raise InputError(f"{chosen.bundle} reads images, not texts.\n  Choose another bundle.")
    row = TASKS.get(config["task"])
    if row is not None and row.verb == "embed":
        return _trained_embedder(chosen)
    return _mean_of_states(chosen)


def _trained_embedder(chosen: argparse.Namespace) -> tuple[Embed, str]:
    if chosen.engine == "keras":
        from tfx_transformer.models.predicting import predictor
        from tfx_transformer.models.saving import load

        model = predictor(*load(chosen.bundle))
    else:
        from tfx_transformer import runtime

        model = runtime.load(chosen.bundle, chosen.variant)
    embed = functools.partial(model.embed, prompt=getattr(chosen, "prompt", None))
    return embed, "by the embedder"


def _mean_of_states(chosen: argparse.Namespace) -> tuple[Embed, str]:
    for flag in ("prompt", "row_prompt"):
        if getattr(chosen, flag, None) is not None:
            raise InputError(
                f"{chosen.bundle} is not an embedder, so it has no prompts.\n"
                f"  Drop --{flag.replace('_', '-')}."
            )

    from tfx_transformer.models import states
    from tfx_transformer.models.saving import load

    model, tokenizer = load(chosen.bundle)

    def mean_of(texts: Sequence[str], prompt: None = None):
        return states.mean_states(model, [states.text_ids(model, tokenizer, t) for t in texts])

    part = model.first_stack.name
    return mean_of, f"mean of the {part}'s last states ({model.task}, not trained to embed)"


def read_column(file: str, column: str) -> list[str]:
    """The cells of one column of a CSV."""
    from tfx_transformer.data.tables import read_table

    return read_table(file, {"text": column}).columns["text"]


def check_files(chosen: argparse.Namespace, *flags: str) -> None:
    """Refuses places to write to that are none, before anything is computed."""
    for flag in flags:
        if not getattr(chosen, flag):
            continue
        path = Path(getattr(chosen, flag))
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"--{flag} {path} cannot be written.\n  Name a file in a folder.")
        if flag == "save" and path.suffix not in (".npy", ".csv"):
            raise InputError(f"--save {path} ends neither in .npy nor in .csv.\n  Choose one.")


def save_vectors(file: str, vectors, texts: Sequence[str]) -> None:
    """Writes float32 (texts, dimensions) as .npy, or as .csv with the texts, in one step."""
    import numpy as np

    with files.replacing(file) as unfinished, unfinished.open("wb") as opened:
        if Path(file).suffix == ".npy":
            np.save(opened, np.asarray(vectors, "float32"))
        else:
            import pandas

            table = pandas.DataFrame(vectors)
            table.insert(0, "text", list(texts))
            table.to_csv(opened, index=False)
