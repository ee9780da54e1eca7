"""The verbs embed and similar: texts as vectors, and how near they are to each other."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tfx_transformer import files
from tfx_transformer.arguments import check_search, refuse_files
from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import Engine, Variant, check_writable, read_texts
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

SHOWN_NUMBERS = 6

# (texts, optional role in a search) -> vectors, float32 (texts, dimensions).
Embed = Callable[..., Any]


class Chosen(NamedTuple):
    """The bundle that makes vectors, its engine and TFLite file, the names of the prompts before
    texts and before rows of a table, and the width to which vectors are cut."""

    bundle: Path
    engine: Engine
    variant: Variant | None
    prompt: str | None = None
    row_prompt: str | None = None
    width: int | None = None


def embed(
    bundle: Path,
    /,
    *texts: str,
    csv: Path | None = None,
    column: str | None = None,
    as_text: bool = False,
    save: Path | None = None,
    prompt: str | None = None,
    width: int | None = None,
    engine: Engine = "litert",
    variant: Variant | None = None,
    reading: TableReading,
) -> dict[str, Any]:
    """Make a vector of each text: print it, or save all of them.

    Args:
        bundle: Folder of a bundle, such as saved_models/embedder.
        texts (TEXT): Texts to make vectors of.
        csv (FILE.csv): Table whose column is read instead.
        column (NAME): Column of the texts in --csv. [text]
        as_text: Read TEXT as a text, even if it looks like the name of a file.
        save (FILE): File to write the vectors to: .npy or .csv.
        prompt (NAME): Prompt of the embedder to put before each text.
        width: Width of the vectors, one that the embedder was trained for. [the full width]
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        reading: How to read the table of --csv, where that cannot be detected.
    """
    check_vector_file(save)
    found = read_texts(texts, csv, column, as_text, reading)
    make, method = embedder(Chosen(bundle, engine, variant, prompt, width=width))
    vectors = make(found)
    print(f"vectors of {vectors.shape[1]:,} numbers: {method}")
    result = {"texts": len(found), "dimensions": vectors.shape[1], "method": method}
    if save:
        save_vectors(save, vectors, found)
        print(f"saved: {save}")
        return result | {"file": str(save)}
    for text, vector in zip(found, vectors, strict=True):
        numbers = " ".join(f"{x:+.3f}" for x in vector[:SHOWN_NUMBERS])
        print(f"{numbers}{' …' if len(vector) > SHOWN_NUMBERS else ''}  {text}")
    return result | {"vectors": vectors.tolist()}


def similar(
    bundle: Path | None = None,
    /,
    *texts: str,
    csv: Path | None = None,
    column: str = "text",
    as_text: bool = False,
    prompt: str | None = None,
    row_prompt: str | None = None,
    width: int | None = None,
    count: int = 5,
    first: str = "",
    second: str = "",
    score: str = "",
    picture: Path | None = None,
    engine: Engine = "litert",
    variant: Variant | None = None,
    reading: TableReading,
) -> dict[str, Any]:
    """Compare texts, find the nearest rows of a table, or score similarity against people's.

    Args:
        bundle: Folder of a bundle, such as saved_models/embedder.
        texts (TEXT): Texts to compare.
        csv (FILE.csv): Table to search in, or to read scored pairs from.
        column (NAME): Column of the texts to search.
        as_text: Read TEXT as a text, even if it looks like the name of a file.
        prompt (NAME): Prompt of the embedder to put before TEXT, or before both texts of scored
            pairs. [query; document before second texts; none if the embedder has no prompts]
        row_prompt (NAME): Prompt to put before each row that is searched. [document, if it has
            that]
        width: Width of the vectors, one that the embedder was trained for. [the full width]
        count: Nearest rows to show.
        first (COLUMN): Column of one text of each pair.
        second (COLUMN): Column of the other text.
        score (COLUMN): Column of people's scores of their similarity.
        picture (FILE.png): Picture to draw of the cosines of all texts.
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        reading: How to read the table of --csv, where that cannot be detected.
    """
    check_writable(picture=picture)
    scored = (first, second, score)
    if row_prompt is not None and (any(scored) or not csv):
        raise InputError(
            "--row-prompt is for rows to search.\n"
            "  Give TEXT and --csv FILE.csv --column COLUMN, or use --prompt alone."
        )
    table = reading.given_file(csv)
    if any(scored):
        if picture:
            raise InputError("--picture draws texts, not scored pairs.\n  Drop it.")
        if not all(scored) or not table or texts:
            raise InputError(
                "scored pairs are read from a file.\n"
                "  Give [BUNDLE] --csv FILE.csv --first COLUMN --second COLUMN --score COLUMN."
            )
        if prompt is not None and not bundle:
            raise InputError("--prompt needs an embedder.\n  Name its bundle, or drop the flag.")
        chosen = Chosen(bundle, engine, variant, prompt, prompt, width) if bundle else None
        return _evaluate(chosen, table, {"first": first, "second": second, "score": score})
    if not bundle:
        raise InputError("name a bundle.\n  See: tfx-transformer similar --help")
    remedy = "The rows of a table are searched with --csv FILE.csv --column COLUMN."
    refuse_files(texts, remedy, as_text)
    chosen = Chosen(bundle, engine, variant, prompt, row_prompt, width)
    if table:
        command = 'tfx-transformer similar BUNDLE "TEXT" --csv FILE.csv --column COLUMN'
        check_search(texts, count, command)
        return _search(chosen, texts, table, column, count, picture)
    if len(texts) < 2:
        raise InputError(
            f"{quantity(len(texts), 'text')} cannot be compared.\n"
            "  Give two or more to compare, or --csv FILE.csv --column COLUMN to search."
        )
    return _compare(chosen, texts, picture)


def _compare(chosen: Chosen, texts: Sequence[str], picture: Path | None) -> dict[str, Any]:
    from tfx_transformer.vectors import MEASURES, cosine

    make, method = embedder(chosen)
    vectors = make(texts)
    print(method)
    if len(vectors) > 2:
        values = {"texts": texts, "cosine": cosine(vectors, vectors).tolist()}
        for text, row in zip(texts, values["cosine"], strict=True):
            print(" ".join(f"{value:>7.4f}" for value in row), f" {text}")
    else:
        values = {n: measure(vectors[:1], vectors[1:]).item() for n, measure in MEASURES.items()}
        for name, value in values.items():
            print(f"{name:<10} {value:>10.4f}{'°' if name == 'angle' else ''}")
    _draw_cosines(chosen, vectors, texts, picture)
    return {"method": method} | values


def _draw_cosines(chosen: Chosen, vectors, texts: Sequence[str], picture: Path | None) -> None:
    """Draw the cosine of each text with each, if a picture is named."""
    if picture:
        from tfx_transformer.pictures import similarity_matrix
        from tfx_transformer.vectors import cosine

        title = f"Cosines by {chosen.bundle.name}"
        similarity_matrix(picture, cosine(vectors, vectors), texts, title)
        print(f"drawn: {picture}")


def _search(
    chosen: Chosen,
    searched: Sequence[str],
    csv: str | os.PathLike[str],
    column: str,
    count: int,
    picture: Path | None,
) -> dict[str, Any]:
    import numpy as np

    from tfx_transformer.cli.search import found_lines
    from tfx_transformer.data.tables import read_table
    from tfx_transformer.vectors import nearest

    table = read_table(csv, {"column": column})
    texts = table.columns["column"]
    make, method = embedder(chosen)
    queries = make(searched, role="query")
    vectors = make(texts, role="document")
    print(f"{quantity(len(texts), 'row')}: {method}")
    results = []
    found, cosines_found = nearest(queries, vectors, count)
    for query, indices, cosines in zip(searched, found, cosines_found, strict=True):
        print(query)
        neighbours = [
            {"row": table.rows[index], "cosine": float(cosine), "text": texts[index]}
            for index, cosine in zip(indices, cosines, strict=True)
        ]
        for near in neighbours:
            print(found_lines(near["cosine"], f"row {near['row']:>6,}", near["text"]))
        results.append({"query": query, "nearest": neighbours})
    rows = list(dict.fromkeys(found.ravel().tolist()))
    shown = np.concatenate([queries, vectors[rows]])
    _draw_cosines(chosen, shown, [*searched, *(texts[row] for row in rows)], picture)
    return {"method": method, "results": results}


def _evaluate(
    chosen: Chosen | None, csv: str | os.PathLike[str], columns: dict[str, str]
) -> dict[str, Any]:
    """Print and return Spearman's correlation of each kind of vector with people's scores."""
    import numpy as np

    from tfx_transformer.vectors import DocumentVectors, spearman, unit

    first, second, scores = _scored_pairs(csv, columns)
    results = {}
    for name, weighting in (("bag of words", "count"), ("TF-IDF", "tf_idf")):
        vectors = DocumentVectors.fit([*first, *second], weighting)
        results[name] = spearman(vectors.cosines(first, second), scores)
    method = None
    if chosen:
        make, method = embedder(chosen)
        # As in training: the first texts are searched for, and the second ones are searched.
        vectors = unit(make(first, role="query")), unit(make(second, role="document"))
        cosines = np.sum(vectors[0] * vectors[1], axis=1)
        results[chosen.bundle.name] = spearman(cosines, scores)
    pairs = quantity(len(scores), "pair")
    print(f"{pairs} of {csv}; Spearman's correlation with {columns['score']!r}:")
    for name, value in results.items():
        print(f"  {100 * value:>6.2f}  {name}")
    if chosen:
        print(f"{chosen.bundle.name}: {method}")
    results = {name: None if np.isnan(value) else value for name, value in results.items()}
    return {"pairs": len(scores), "spearman": results, "method": method}


def _scored_pairs(
    csv: str | os.PathLike[str], columns: dict[str, str]
) -> tuple[list[str], list[str], list[float]]:
    from tfx_transformer.data.tables import read_table

    table = read_table(csv, columns)
    scores = []
    for row, cell in zip(table.rows, table.columns["score"], strict=True):
        try:
            scores.append(float(cell))
        except ValueError:
            scores.append(math.nan)
        if not math.isfinite(scores[-1]):
            raise InputError(
                f"{csv}, row {row}: column {columns['score']!r} is {cell!r}, not a number.\n"
                "  Expected how similar the two texts are, such as 3.5."
            )
    return table.columns["first"], table.columns["second"], scores


def embedder(chosen: Chosen) -> tuple[Embed, str]:
    """Return the function that makes vectors of texts by a bundle, and its description.

    It puts a prompt of `chosen` before each text; without one, that of the text's role in a search,
    "query" or "document", if the embedder has it. The vector of a bundle that is not an embedder is
    the mean of its last states, computed by Keras.
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


def _trained_embedder(chosen: Chosen) -> tuple[Embed, str]:
    if chosen.engine == "keras":
        from tfx_transformer.models.predicting import predictor
        from tfx_transformer.models.saving import load

        model: Any = predictor(*load(chosen.bundle))
        model.engine.begin_eagerly()
    else:
        from tfx_transformer import runtime

        model = runtime.load(chosen.bundle, chosen.variant)
    model.check_width(chosen.width)

    def embed(texts: Sequence[str], role: Literal["query", "document"] | None = None):
        prompt = chosen.row_prompt if role == "document" else chosen.prompt
        if prompt is None and role is not None:
            prompt = model.config.prompt_name(role)
        return model.embed(texts, prompt, chosen.width)

    return embed, "by the embedder"


def _mean_of_states(chosen: Chosen) -> tuple[Embed, str]:
    if chosen.width is not None:
        raise InputError(f"{chosen.bundle} is not an embedder with widths.\n  Drop --width.")
    for flag, prompt in (("prompt", chosen.prompt), ("row-prompt", chosen.row_prompt)):
        if prompt is not None:
            raise InputError(
                f"{chosen.bundle} is not an embedder, so it has no prompts.\n  Drop --{flag}."
            )

    from tfx_transformer.models import states
    from tfx_transformer.models.saving import load

    model, tokenizer = load(chosen.bundle)

    def mean_of(texts: Sequence[str], role: str | None = None):
        return states.mean_states(model, [states.text_ids(model, tokenizer, t) for t in texts])

    part = model.first_stack.name
    return mean_of, f"mean of the {part}'s last states ({model.task}, not trained to embed)"


def read_column(file: str | os.PathLike[str], column: str) -> list[str]:
    """Return the cells of one column of a table."""
    from tfx_transformer.data.tables import read_table

    return read_table(file, {"column": column}).columns["column"]


def check_vector_file(save: Path | None) -> None:
    """Raise if vectors cannot be saved in a file, before anything is computed."""
    check_writable(save=save)
    if save and save.suffix not in (".npy", ".csv"):
        raise InputError(f"--save {save} ends neither in .npy nor in .csv.\n  Choose one.")


def save_vectors(file: Path, vectors, texts: Sequence[str]) -> None:
    """Write vectors, float32 (texts, dimensions), as .npy, or with the texts as .csv."""
    import numpy as np

    with files.replacing(file) as unfinished, unfinished.open("wb") as opened:
        if file.suffix == ".npy":
            np.save(opened, np.asarray(vectors, "float32"))
        else:
            import pandas

            table = pandas.DataFrame(vectors)
            table.insert(0, "text", list(texts))
            table.to_csv(opened, index=False)
