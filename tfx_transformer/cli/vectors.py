"""The verb vectors: words, documents, images, states and weights as vectors, attention, and their
pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import Engine, Variant, check_writable
from tfx_transformer.cli.similar import (
    Chosen,
    check_vector_file,
    embedder,
    read_column,
    save_vectors,
)
from tfx_transformer.errors import InputError
from tfx_transformer.flag_parser import Kinds
from tfx_transformer.reprs import quantity

TABLE = "embedding/embeddings"  # the weight that holds a bundle's word vectors
DRAWN = 300  # points of a map, evenly spaced among the rows
PIXELS = 32  # side of an image whose pixels are its vector


def words(
    bundle: Path, words: Sequence[str], /, *, no_space: bool = False, picture: Path | None = None
) -> dict[str, Any]:
    """Compare words by the embedding table of a bundle.

    Args:
        bundle: Folder of a bundle, such as saved_models/en_ja.
        words (WORD): Words to compare.
        no_space: Use the tokens of words at the beginning of a text, without a space before them.
        picture (FILE.png): Picture to draw of their vectors.
    """
    from tfx_transformer.bundle import consistent_read
    from tfx_transformer.vectors import cosine, nearest, word_vectors

    check_writable(picture=picture)
    table, tokenizer = consistent_read(_embedding_table)(bundle)
    found = word_vectors(table, tokenizer, words, not no_space)
    indices, _ = nearest(found, found, 4)
    cosines = cosine(found, found)
    for row, word in enumerate(words):
        others = [f"{words[i]} {cosines[row, i]:.3f}" for i in indices[row] if i != row][:3]
        print(f"{word}: {', '.join(others) or '(the only word)'}")
    share = _draw_map(picture, found, words, None, "Words by the embedding table")
    return {"words": words, "cosine": cosines.tolist(), "share_of_variance": share}


def documents(
    file: Path,
    /,
    *,
    column: str = "text",
    group: str = "",
    weighting: Literal["count", "tf_idf"] = "tf_idf",
    max_words: int = 10_000,
    bundle: Path | None = None,
    save: Path | None = None,
    engine: Engine = "litert",
    variant: Variant | None = None,
    picture: Path | None = None,
    reading: TableReading,
) -> dict[str, Any]:
    """Make vectors of the texts in a table: by their words, or by a bundle.

    Args:
        file (FILE.csv): Table with a document in each row.
        column (NAME): Column of the texts.
        group (COLUMN): Column of groups; each gets a colour in the picture.
        weighting: Weights of words: counts, or TF-IDF.
        max_words: Most words to count, the most frequent ones.
        bundle (BUNDLE): Bundle that makes the vectors instead.
        save (FILE): File to write the vectors to: .npy or .csv.
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        picture (FILE.png): Picture to draw of the vectors.
        reading: How to read the table, where that cannot be detected.
    """
    check_writable(picture=picture)
    check_vector_file(save)
    _check_counts(max_words=max_words)
    table = reading.file(file)
    texts = read_column(table, column)
    groups = read_column(table, group) if group else None
    if bundle:
        make, method = embedder(Chosen(bundle, engine, variant))
    else:
        from tfx_transformer.vectors import DocumentVectors

        made = DocumentVectors.fit(texts, weighting, max_words=max_words)
        make, method = made.transform, f"{len(made.words):,} words, {weighting}"
    print(f"{quantity(len(texts), 'text')}: {method}")
    if save:
        save_vectors(save, make(texts), texts)
    drawn = _spread(len(texts))
    shown = make([texts[i] for i in drawn])
    names = [texts[i] for i in drawn]
    colours = groups and [groups[i] for i in drawn]
    share = _draw_map(picture, shown, names, colours, f"{file.name}: {method}")
    return {"texts": len(texts), "dimensions": shown.shape[1], "share_of_variance": share}


def images(
    path: Path, /, *, bundle: Path | None = None, picture: Path | None = None
) -> dict[str, Any]:
    """Make vectors of labelled images: of their pixels, or by a bundle's encoder.

    Args:
        path (FOLDER|FILE.csv): Images, as image_classification takes them.
        bundle (BUNDLE): Bundle whose encoder makes the vectors instead.
        picture (FILE.png): Picture to draw of the vectors.
    """
    import numpy as np

    from tfx_transformer.data.labelled_image import read_labelled_images
    from tfx_transformer.images import read_image, resize

    check_writable(picture=picture)
    found = read_labelled_images(path)
    found = found.take(_spread(len(found)))
    size, resizing, model = PIXELS, None, None
    if bundle:
        from tfx_transformer.models.saving import load

        model, _ = load(bundle)
        if not (size := model.config.image_size):
            raise InputError(f"{bundle} reads texts, not images.\n  Choose another bundle.")
        resizing = model.config.image_resize
    pixels = np.array([resize(read_image(file), size, resizing) for file in found.files])
    shown, method = pixels.reshape(len(pixels), -1), f"{size} x {size} pixels"
    if model is not None:
        from tfx_transformer.models.states import image_states

        shown, method = image_states(model, pixels), "mean of the encoder's last states"
    print(f"{quantity(len(shown), 'image')}: {method}")
    groups = ["|".join(labels) for labels in found.labels]
    share = _draw_map(picture, shown, [""] * len(shown), groups, f"{path.name}: {method}")
    return {"images": len(shown), "dimensions": shown.shape[1], "share_of_variance": share}


def states(
    bundle: Path,
    text: str,
    /,
    *,
    cache: Path | None = None,
    steps: int = 16,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Follow a text's tokens through the layers of a bundle, and its cache while it writes.

    Args:
        bundle: Folder of a bundle, such as saved_models/en_ja.
        text: Text that the model reads.
        cache (FILE.png): Picture to draw of the cache while the model answers.
        steps: Tokens of the answer.
        picture (FILE.png): Picture to draw of the vectors.
    """
    import numpy as np

    from tfx_transformer.models import states as model_states

    check_writable(picture=picture, cache=cache)
    _check_counts(steps=steps)
    model, tokenizer, ids = _read_text(bundle, text)
    found = model_states.hidden_states(model, ids)
    tokens = tokenizer.tokens(ids)
    lengths = np.linalg.norm(np.array(found), axis=2).T
    print("length of each token's vector before the first layer and after each:")
    for token, row in zip(tokens, lengths, strict=True):
        print(" ".join(f"{length:>8.3f}" for length in row), f" {token!r}")
    result = {"tokens": tokens, "lengths": lengths.tolist()}
    if picture:
        from tfx_transformer.pictures import states_by_layer

        states_by_layer(picture, found, tokens)
        print(f"drawn: {picture}")
    if cache:
        from tfx_transformer.pictures import cache_growth

        grown = model_states.cache_states(model, tokenizer, text, steps)
        cache_growth(cache, grown.keys, grown.values, grown.tokens, text)
        print(f"drawn: {cache}")
        result["cache"] = {"tokens": grown.tokens, "steps": len(grown.keys)}
    return result


def attention(
    bundle: Path,
    text: str,
    /,
    *,
    layer: int | None = None,
    head: int | None = None,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Show which tokens of a text each of its tokens looks at.

    Args:
        bundle: Folder of a bundle, such as saved_models/en_ja.
        text: Text that the model reads.
        layer: Layer to show, from 1. [the mean of all]
        head: Head to show, from 1. [the mean of all]
        picture (FILE.png): Picture to draw of the attention.
    """
    import numpy as np

    from tfx_transformer.models.states import self_attention, token_bytes

    check_writable(picture=picture)
    _check_counts(layer=layer, head=head)
    model, tokenizer, ids = _read_text(bundle, text)
    scores = self_attention(model, ids)
    parts = []
    for axis, (name, number) in enumerate((("layer", layer), ("head", head))):
        count = scores.shape[axis]
        if number is not None and number > count:
            raise InputError(f"--{name} is {number}.\n  The model has {count} {name}s.")
        parts.append(f"mean of {count} {name}s" if number is None else f"{name} {number}")
        scores = scores if number is None else scores.take([number - 1], axis)
    found, tokens = scores.mean(axis=(0, 1)), tokenizer.tokens(ids)
    print(f"where each token looks most: {', '.join(parts)}")
    for token, row in zip(tokens, found, strict=True):
        most = [i for i in np.argsort(-row, kind="stable")[:3] if row[i] >= 0.0005]
        print(f"  {token!r}: {', '.join(f'{tokens[i]!r} {row[i]:.3f}' for i in most)}")
    if picture:
        from tfx_transformer.pictures import self_attention_map

        spelled = token_bytes(tokenizer, ids)
        self_attention_map(picture, found, spelled, f"{', '.join(parts)}: {text}")
        print(f"drawn: {picture}")
    return {"tokens": tokens, "attention": found.tolist()}


def _read_text(path: Path, text: str):
    """Return the model and the tokenizer of a bundle, and the ids of a text."""
    from tfx_transformer import bundle
    from tfx_transformer.models.saving import load
    from tfx_transformer.models.states import text_ids

    if bundle.read_config(path)["architecture"].get("image_size"):
        raise InputError(f"{path} reads images, not texts.\n  Choose another bundle.")
    model, tokenizer = load(path)
    return model, tokenizer, text_ids(model, tokenizer, text)


def weights(
    bundle: Path, other: Path | None = None, /, *, picture: Path | None = None
) -> dict[str, Any]:
    """List the weights of a bundle, or their changes from it to another one.

    Args:
        bundle: Folder of a bundle, such as saved_models/en_ja.
        other (OTHER_BUNDLE): Bundle to compare it with.
        picture (FILE.png): Picture to draw of the weights.
    """
    from tfx_transformer.models.saving import load
    from tfx_transformer.models.states import weight_distance, weight_norms

    check_writable(picture=picture)
    model, _ = load(bundle)
    if other:
        rows = weight_distance(model, load(other)[0])
        title = f"From {bundle.name} to {other.name}"
        print("  change    cosine  weight")
        for row in rows:
            change, cosine = (
                "       –" if row[name] is None else f"{row[name]:>8.4f}"
                for name in ("relative_change", "cosine")
            )
            print(f"{change}  {cosine}  {row['path']}")
    else:
        rows, title = weight_norms(model), bundle.name
        print("    norm      mean       std  weight")
        for row in rows:
            numbers = f"{row['norm']:>8.3f}  {row['mean']:>8.4f}  {row['std']:>8.4f}"
            print(f"{numbers}  {row['path']} {tuple(row['shape'])}")
    if picture:
        from tfx_transformer.pictures import weight_changes, weight_sizes

        (weight_changes if other else weight_sizes)(picture, rows, title)
        print(f"drawn: {picture}")
    return {"weights": rows}


def _draw_map(
    picture: Path | None,
    found,
    names: Sequence[str],
    groups: Sequence[str] | None,
    title: str,
) -> list[float]:
    """Print and return the share of the variance that each axis of a map shows; draw the map."""
    from tfx_transformer.vectors import principal_components

    points, share = principal_components(found)
    print(f"a map of {len(points):,} points shows {100 * share.sum():.0f} % of the variance")
    if picture:
        from tfx_transformer.pictures import map_of_vectors

        map_of_vectors(picture, points, names, groups, title, share)
        print(f"drawn: {picture}")
    return share.tolist()


def _spread(count: int) -> list[int]:
    """Return the numbers of at most `DRAWN` rows, from 0, evenly spaced."""
    return list(range(0, count, -(-count // DRAWN)))


def _embedding_table(path: str):
    """Return the embedding table, float32 (vocabulary_size, hidden_dim), and the tokenizer, without
    building the model."""
    import safetensors

    from tfx_transformer import bundle

    bundle.verify(path, [bundle.WEIGHTS, *bundle.TOKENIZER_FILES])
    with safetensors.safe_open(f"{path}/{bundle.WEIGHTS}", "numpy") as file:
        if TABLE not in file.keys():  # noqa: SIM118, not a dictionary
            raise InputError(f"{path} holds no word vectors.\n  Choose a bundle that reads texts.")
        table = file.get_tensor(TABLE)
    return table, bundle.read_tokenizer(path, len(table))


def _check_counts(**counts: int | None) -> None:
    """Raise an InputError if a given number is below 1."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"--{name.replace('_', '-')} is {count}.\n  Expected 1 or more.")


VECTORS = Kinds(
    "Show words, documents, images, states, weights or attention, with pictures.",
    {
        "words": words,
        "documents": documents,
        "images": images,
        "states": states,
        "attention": attention,
        "weights": weights,
    },
)
