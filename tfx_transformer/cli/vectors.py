"""The verb vectors: words, documents, images, states and weights as vectors, attention, and their
pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer.cli.engines import add_as_text, add_engine, add_texts
from tfx_transformer.cli.similar import (
    check_files,
    embed,
    embedder,
    read_column,
    save_vectors,
    similar,
)
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

TABLE = "embedding/embeddings"  # the weight that holds a bundle's word vectors
DRAWN = 300  # points of a map, evenly spaced among the rows
PIXELS = 32  # side of an image whose pixels are its vector

Verb = Callable[[str, Callable[[argparse.Namespace], Any]], argparse.ArgumentParser]


def add_vector_verbs(verb: Verb) -> None:
    """Adds embed, similar and vectors; `verb` makes the parser of a name and an action."""
    one = verb("embed", embed)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    add_texts(one, "text")
    one.add_argument("--save", metavar="FILE", help="write the vectors there: .npy or .csv")
    one.add_argument("--prompt", metavar="NAME", help="put this prompt of the embedder before each")
    add_engine(one)

    one = verb("similar", similar)
    one.add_argument("bundle", nargs="?", help="folder of a bundle, such as saved_models/en_ja")
    one.add_argument("texts", nargs="*", metavar="TEXT", help="texts to compare")
    one.add_argument("--csv", metavar="FILE.csv", help="search a column of it, or score its pairs")
    one.add_argument("--column", default="text", help="of the texts to search [text]")
    add_as_text(one)
    one.add_argument("--prompt", metavar="NAME", help="put this prompt of the embedder before TEXT")
    one.add_argument(
        "--row-prompt", metavar="NAME", help="put this one before each row that is searched"
    )
    one.add_argument("--count", type=int, default=5, help="of nearest rows [5]")
    for name, text in (
        ("first", "of one text of each pair"),
        ("second", "of the other text"),
        ("score", "of how similar people say they are"),
    ):
        one.add_argument(f"--{name}", metavar="COLUMN", help=text)
    one.add_argument("--picture", metavar="FILE.png", help="draw the cosines of all texts there")
    add_engine(one)

    kinds = verb("vectors", vectors).add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, (action, add_arguments) in KINDS.items():
        text = (action.__doc__ or "").strip()
        one = kinds.add_parser(name, help=text, description=text)
        # May stand after the kind too; without a default, what stood before it is kept.
        for flag in ("--json", "--debug"):
            one.add_argument(
                flag, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
            )
        add_arguments(one)
        one.add_argument("--picture", metavar="FILE.png", help="draw them there")


def vectors(chosen: argparse.Namespace) -> dict[str, Any]:
    """show words, documents, images, states or weights as vectors, or attention: with pictures"""
    check_files(chosen, *({"picture", "save", "cache"} & vars(chosen).keys()))
    for flag in {"steps", "max_words", "layer", "head"} & vars(chosen).keys():
        if getattr(chosen, flag) is not None and getattr(chosen, flag) < 1:
            name = flag.replace("_", "-")
            raise InputError(f"--{name} is {getattr(chosen, flag)}.\n  Expected 1 or more.")
    return KINDS[chosen.kind][0](chosen)


def words(chosen: argparse.Namespace) -> dict[str, Any]:
    """compare words by the embedding table of a bundle"""
    from tfx_transformer import bundle
    from tfx_transformer.vectors import cosine, nearest, word_vectors

    table, tokenizer = bundle.consistent_read(_embedding_table)(chosen.bundle)
    found = word_vectors(table, tokenizer, chosen.words, not chosen.no_space)
    indices, _ = nearest(found, found, 4)
    cosines = cosine(found, found)
    for row, word in enumerate(chosen.words):
        others = [f"{chosen.words[i]} {cosines[row, i]:.3f}" for i in indices[row] if i != row][:3]
        print(f"{word}: {', '.join(others) or '(the only word)'}")
    share = _draw_map(chosen, found, chosen.words, None, "Words by the embedding table")
    return {"words": chosen.words, "cosine": cosines.tolist(), "share_of_variance": share}


def documents(chosen: argparse.Namespace) -> dict[str, Any]:
    """make vectors of the texts in a CSV: by their words, or by a bundle"""
    texts = read_column(chosen.file, chosen.column)
    groups = read_column(chosen.file, chosen.group) if chosen.group else None
    if chosen.bundle:
        make, method = embedder(chosen)
    else:
        from tfx_transformer.vectors import DocumentVectors

        made = DocumentVectors.fit(texts, chosen.weighting, max_words=chosen.max_words)
        make, method = made.transform, f"{len(made.words):,} words, {chosen.weighting}"
    print(f"{quantity(len(texts), 'text')}: {method}")
    if chosen.save:
        save_vectors(chosen.save, make(texts), texts)
    drawn = _spread(len(texts))
    shown = make([texts[i] for i in drawn])
    names = [texts[i] for i in drawn]
    share = _draw_map(
        chosen,
        shown,
        names,
        groups and [groups[i] for i in drawn],
        f"{Path(chosen.file).name}: {method}",
    )
    return {"texts": len(texts), "dimensions": shown.shape[1], "share_of_variance": share}


def images(chosen: argparse.Namespace) -> dict[str, Any]:
    """make vectors of labelled images: of their pixels, or by a bundle's encoder"""
    import numpy as np

    from tfx_transformer.data.labelled_image import read_labelled_images
    from tfx_transformer.images import read_image, resize

    found = read_labelled_images(chosen.path)
    found = found.take(_spread(len(found)))
    size, how, model = PIXELS, None, None
    if chosen.bundle:
        from tfx_transformer.models.saving import load

        model, _ = load(chosen.bundle)
        if not (size := model.config.image_size):
            raise InputError(f"{chosen.bundle} reads texts, not images.\n  Choose another bundle.")
        how = model.config.image_resize
    pixels = np.array([resize(read_image(file), size, how) for file in found.files])
    shown, method = pixels.reshape(len(pixels), -1), f"{size} x {size} pixels"
    if model is not None:
        from tfx_transformer.models.states import image_states

        shown, method = image_states(model, pixels), "mean of the encoder's last states"
    print(f"{quantity(len(shown), 'image')}: {method}")
    groups = ["|".join(labels) for labels in found.labels]
    share = _draw_map(
        chosen, shown, [""] * len(shown), groups, f"{Path(chosen.path).name}: {method}"
    )
    return {"images": len(shown), "dimensions": shown.shape[1], "share_of_variance": share}


def states(chosen: argparse.Namespace) -> dict[str, Any]:
    """follow a text's tokens through the layers of a bundle, and its cache while it writes"""
    import numpy as np

    from tfx_transformer.models import states as model_states

    model, tokenizer, ids = _read_text(chosen)
    found = model_states.hidden_states(model, ids)
    tokens = tokenizer.tokens(ids)
    lengths = np.linalg.norm(np.array(found), axis=2).T
    print("length of each token's vector before the first layer and after each:")
    for token, row in zip(tokens, lengths, strict=True):
        print(" ".join(f"{length:>8.3f}" for length in row), f" {token!r}")
    result = {"tokens": tokens, "lengths": lengths.tolist()}
    if chosen.picture:
        from tfx_transformer.pictures import states_by_layer

        states_by_layer(chosen.picture, found, tokens)
        print(f"drawn: {chosen.picture}")
    if chosen.cache:
        from tfx_transformer.pictures import cache_growth

        cache = model_states.cache_states(model, tokenizer, chosen.text, chosen.steps)
        cache_growth(chosen.cache, cache.keys, cache.values, cache.tokens, chosen.text)
        print(f"drawn: {chosen.cache}")
        result["cache"] = {"tokens": cache.tokens, "steps": len(cache.keys)}
    return result


def attention(chosen: argparse.Namespace) -> dict[str, Any]:
    """show which tokens of a text each of its tokens looks at"""
    import numpy as np

    from tfx_transformer.models.states import self_attention, token_bytes

    model, tokenizer, ids = _read_text(chosen)
    scores = self_attention(model, ids)
    parts = []
    for axis, name in enumerate(("layer", "head")):
        number, count = getattr(chosen, name), scores.shape[axis]
        if number is not None and number > count:
            raise InputError(f"--{name} is {number}.\n  The model has {count} {name}s.")
        parts.append(f"mean of {count} {name}s" if number is None else f"{name} {number}")
        scores = scores if number is None else scores.take([number - 1], axis)
    found, tokens = scores.mean(axis=(0, 1)), tokenizer.tokens(ids)
    print(f"where each token looks most: {', '.join(parts)}")
    for token, row in zip(tokens, found, strict=True):
        most = [i for i in np.argsort(-row, kind="stable")[:3] if row[i] >= 0.0005]
        print(f"  {token!r}: {', '.join(f'{tokens[i]!r} {row[i]:.3f}' for i in most)}")
    if chosen.picture:
        from tfx_transformer.pictures import self_attention_map

        spelled = token_bytes(tokenizer, ids)
        self_attention_map(chosen.picture, found, spelled, f"{', '.join(parts)}: {chosen.text}")
        print(f"drawn: {chosen.picture}")
    return {"tokens": tokens, "attention": found.tolist()}


def _read_text(chosen: argparse.Namespace):
    """The model and the tokenizer of the chosen bundle, and the ids of the chosen text."""
    from tfx_transformer import bundle
    from tfx_transformer.models.saving import load
    from tfx_transformer.models.states import text_ids

    if bundle.read_config(chosen.bundle)["architecture"].get("image_size"):
        raise InputError(f"{chosen.bundle} reads images, not texts.\n  Choose another bundle.")
    model, tokenizer = load(chosen.bundle)
    return model, tokenizer, text_ids(model, tokenizer, chosen.text)


def weights(chosen: argparse.Namespace) -> dict[str, Any]:
    """list the weights of a bundle, or what changed from it to another"""
    from tfx_transformer.models.saving import load
    from tfx_transformer.models.states import weight_distance, weight_norms

    model, _ = load(chosen.bundle)
    if chosen.other:
        rows = weight_distance(model, load(chosen.other)[0])
        title = f"From {Path(chosen.bundle).name} to {Path(chosen.other).name}"
        print("  change    cosine  weight")
        for row in rows:
            change, cosine = (
                "       –" if row[name] is None else f"{row[name]:>8.4f}"
                for name in ("relative_change", "cosine")
            )
            print(f"{change}  {cosine}  {row['path']}")
    else:
        rows, title = weight_norms(model), Path(chosen.bundle).name
        print("    norm      mean       std  weight")
        for row in rows:
            numbers = f"{row['norm']:>8.3f}  {row['mean']:>8.4f}  {row['std']:>8.4f}"
            print(f"{numbers}  {row['path']} {tuple(row['shape'])}")
    if chosen.picture:
        from tfx_transformer.pictures import weight_changes, weight_sizes

        (weight_changes if chosen.other else weight_sizes)(chosen.picture, rows, title)
        print(f"drawn: {chosen.picture}")
    return {"weights": rows}


def _draw_map(
    chosen: argparse.Namespace,
    found,
    names: Sequence[str],
    groups: Sequence[str] | None,
    title: str,
) -> list[float]:
    """Prints how much of the variance a map shows, and draws it if wanted."""
    from tfx_transformer.vectors import principal_components

    points, share = principal_components(found)
    print(f"a map of {len(points):,} points shows {100 * share.sum():.0f} % of the variance")
    if chosen.picture:
        from tfx_transformer.pictures import map_of_vectors

        map_of_vectors(chosen.picture, points, names, groups, title, share)
        print(f"drawn: {chosen.picture}")
    return share.tolist()


def _spread(count: int) -> list[int]:
    """Row numbers of at most `DRAWN` rows, evenly spaced."""
    return list(range(0, count, -(-count // DRAWN)))


def _embedding_table(path: str):
    """Return float32 (vocabulary, hidden_dim), read without building the model, and the
    tokenizer."""
    import safetensors

    from tfx_transformer import bundle

    bundle.verify(path, [bundle.WEIGHTS, *bundle.TOKENIZER_FILES])
    with safetensors.safe_open(f"{path}/{bundle.WEIGHTS}", "numpy") as file:
        if TABLE not in file.keys():  # noqa: SIM118, not a dictionary
            raise InputError(f"{path} holds no word vectors.\n  Choose a bundle that reads texts.")
        table = file.get_tensor(TABLE)
    return table, bundle.read_tokenizer(path, len(table))


def _add_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    parser.add_argument("words", nargs="+", metavar="WORD", help="words to draw")
    parser.add_argument("--no-space", action="store_true", help="as words that begin a text")


def _add_documents(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.csv", help="table with a document in each row")
    parser.add_argument("--column", default="text", help="of the texts [text]")
    parser.add_argument("--group", metavar="COLUMN", help="whose values get a colour each")
    parser.add_argument(
        "--weighting",
        choices=("count", "tf_idf"),
        default="tf_idf",
        help="how words are weighed [tf_idf]",
    )
    parser.add_argument(
        "--max-words", type=int, default=10_000, help="the most frequent ones [10000]"
    )
    parser.add_argument("--bundle", help="make the vectors by this bundle instead")
    parser.add_argument("--save", metavar="FILE", help="write the vectors there: .npy or .csv")
    add_engine(parser)


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="FOLDER|FILE.csv", help="images, as image_classification takes them"
    )
    parser.add_argument("--bundle", help="make the vectors by this bundle's encoder")


def _add_states(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    parser.add_argument("text", metavar="TEXT", help="text that the model reads")
    parser.add_argument("--cache", metavar="FILE.png", help="draw the cache while it answers")
    parser.add_argument("--steps", type=int, default=16, help="of the answer [16]")


def _add_attention(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    parser.add_argument("text", metavar="TEXT", help="text that the model reads")
    parser.add_argument("--layer", type=int, help="one of them, from 1 [the mean of all]")
    parser.add_argument("--head", type=int, help="one of them, from 1 [the mean of all]")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    parser.add_argument(
        "other", nargs="?", metavar="OTHER_BUNDLE", help="bundle to compare it with"
    )


KINDS = {
    "words": (words, _add_words),
    "documents": (documents, _add_documents),
    "images": (images, _add_images),
    "states": (states, _add_states),
    "attention": (attention, _add_attention),
    "weights": (weights, _add_weights),
}
