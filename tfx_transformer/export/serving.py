"""The SavedModel of an encoder-only model: strings or encoded images to labels, numbers, tags or
vectors, in core TensorFlow operations."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tensorflow as tf

from tfx_transformer.export.graph_tokenizer import GraphTokenizer
from tfx_transformer.prediction.classification import read_labels
from tfx_transformer.prediction.tagging import room_for
from tfx_transformer.prediction.tags import read_tags
from tfx_transformer.text.windows import stride


def classifier_serving(model, tokenizer, config: dict):
    """Return the endpoint of a `Classifier`.

    Args:
        model, tokenizer: model and tokenizer of the bundle.
        config: the bundle's configuration; see `bundle.read_config`.

    Returns: the objects to track next to the model, the function, and its inputs, each string
        (batch,): `images`, or `texts`, or one for each text of a row, see `input_names`. The
        function returns a dictionary: "probabilities" float32 (batch, classes) and "labels" string
        (batch,), the most probable. If a checkpoint's tokenizer cannot run in a graph, the input is
        `token_ids`, int32 (batch, length): padded rows of `text.framing.frame`.

    Raises:
        InputError: the classes have no names.
    """
    names = read_labels(config, model.config.num_classes, "the bundle")

    def answer(inputs):
        output = tf.cast(model(inputs, training=False), tf.float32)
        best = tf.argmax(output, axis=1)
        probabilities = tf.sigmoid(output) if model.config.multi_label else tf.nn.softmax(output)
        return {"probabilities": probabilities, "labels": tf.gather(tf.constant(names), best)}

    return _serving(model, tokenizer, config, answer)


def regressor_serving(model, tokenizer, config: dict):
    """Return the endpoint of a `Regressor`, as `classifier_serving`: "predictions" float32
    (batch,), in the units of the data."""

    def answer(inputs):
        return {"predictions": tf.cast(model(inputs, training=False), tf.float32)[:, 0]}

    return _serving(model, tokenizer, config, answer)


def embedder_serving(model, tokenizer, config: dict):
    """Return the endpoint of an `Embedder`, as `classifier_serving`: "embeddings" float32
    (batch, width) of texts after the model's default prompt."""

    def answer(inputs):
        return {"embeddings": tf.cast(model(inputs, training=False), tf.float32)}

    return _serving(model, tokenizer, config, answer, start=model.config.prompt())


def tagger_serving(model, tokenizer, config: dict):
    """Return the endpoint of a `Tagger`.

    Args:
        model, tokenizer, config: see `classifier_serving`.

    Returns: as `classifier_serving`. The function takes `texts`, string (batch,), of any length:
        texts longer than the model's maximum are read in windows, see `text.windows`. It returns a
        dictionary with values of each token: "probabilities" float32 (batch, tokens, tags); "tags"
        string (batch, tokens), the most probable; "starts" and "ends" int32 (batch, tokens), its
        place in the text in characters. After the last token of a text all are 0 or "".
        `prediction.Tags` makes spans of them. If a checkpoint's tokenizer cannot run in a graph,
        the input is `token_ids`, int32 (batch, length), and "starts" and "ends" are left out.

    Raises:
        InputError: the tags have no names.
    """
    names = tf.constant(read_tags(config, model.config.num_classes, "the bundle").names)

    def answer(token_ids):
        output = tf.cast(model({"token_ids": token_ids}, training=False), tf.float32)
        return tf.nn.softmax(output)

    def tags_of(probabilities, inside):
        return tf.where(inside, tf.gather(names, tf.argmax(probabilities, axis=2)), "")

    if not tokenizer.is_plain:

        def serve_ids(token_ids):
            found = answer(token_ids)
            inside = token_ids != model.config.padding_id
            return {"probabilities": found, "tags": tags_of(found, inside)}

        return [], serve_ids, [tf.TensorSpec([None, None], tf.int32, "token_ids")]

    graph_tokenizer = GraphTokenizer(tokenizer)
    sizes = tokenizer.byte_lengths()

    def serve_texts(texts):
        ids = graph_tokenizer.encode(texts)
        found = read_windows(ids, answer, tokenizer, model.config.max_sequence_length)
        dense = ids.to_tensor(tokenizer.padding_id)
        inside = tf.sequence_mask(ids.row_lengths(), tf.shape(dense)[1])
        begins = graph_tokenizer.begins(texts)
        starts, ends = characters_of(begins, tf.gather(tf.constant(sizes), dense))
        return {
            "probabilities": tf.where(inside[:, :, None], found, 0.0),
            "tags": tags_of(found, inside),
            "starts": tf.where(inside, starts, 0),
            "ends": tf.where(inside, ends, 0),
        }

    return [graph_tokenizer], serve_texts, [tf.TensorSpec([None], tf.string, "texts")]


def read_windows(ids: tf.RaggedTensor, answer, tokenizer, max_length: int) -> tf.Tensor:
    """Return a model's output for each token, read in the windows of `text.windows`.

    Args:
        ids: int32 (batch, any length), tokens of each text without its frame.
        answer: token ids int32 (windows, length) -> float32 (windows, length, width).
        tokenizer: its `frame` is put around each window.
        max_length: most tokens that the model reads, including the frame.

    Returns: float32 (batch, longest, width).
    """
    room = room_for(tokenizer, max_length)
    step = stride(room)
    margin = (room - step) // 2
    counts = tf.cast(ids.row_lengths(), tf.int32)
    dense = ids.to_tensor(tokenizer.padding_id)
    number = 1 + tf.maximum(counts - room + step - 1, 0) // step
    rows = tf.repeat(tf.range(tf.size(counts)), number)
    first = tf.range(tf.size(rows)) - tf.gather(tf.cumsum(number, exclusive=True), rows)
    starts = first * step
    # One more column, so that there is one to read if all texts are empty.
    filled = tf.pad(dense, [[0, 0], [0, 1]], constant_values=tokenizer.padding_id)
    places = tf.minimum(starts[:, None] + tf.range(room), tf.shape(filled)[1] - 1)
    lengths = tf.minimum(tf.gather(counts, rows) - starts, room)
    pieces = tf.RaggedTensor.from_tensor(  # pyright: ignore[reportAttributeAccessIssue]
        tf.gather(tf.gather(filled, rows), places, batch_dims=1), lengths=lengths
    )
    framed = frame_rows([pieces], tokenizer, max_length).to_tensor(tokenizer.padding_id)
    output = answer(framed)
    place = tf.range(tf.shape(dense)[1])[None]
    window = tf.clip_by_value((place - margin) // step, 0, number[:, None] - 1)
    inner = tf.minimum(place - window * step + len(tokenizer.frame.before), tf.shape(framed)[1] - 1)
    window += tf.cumsum(number, exclusive=True)[:, None]
    return tf.gather_nd(output, tf.stack([window, inner], axis=2))


def characters_of(begins: tf.RaggedTensor, sizes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the characters at which tokens begin and end: `text.offsets.of_bytes` of each text.

    Args:
        begins: int64 (batch, characters), see `GraphTokenizer.begins`.
        sizes: int32 (batch, tokens), bytes of each token; 0 after the last.

    Returns: int32 (batch, tokens) twice.
    """
    places = tf.cast(begins.to_tensor(tf.int64.max), tf.int64)
    ends = tf.cumsum(tf.cast(sizes, tf.int64), axis=1)
    starts = ends - tf.cast(sizes, tf.int64)
    first = tf.searchsorted(places, starts, side="right") - 1
    return first, tf.searchsorted(places, ends - 1, side="right")


def _serving(model, tokenizer, config: dict, answer, start: str = ""):
    """Return the endpoint of an encoder-only model; see `classifier_serving`.

    Args:
        answer: inputs of the model -> outputs of the endpoint.
        start: prefix of each text.
    """
    size = model.config.image_size
    if size:

        def serve_images(images):
            method = model.config.image_resize
            decode = tf.function(lambda image: _pixels(image, size, method), autograph=False)
            return answer({"images": tf.map_fn(decode, images, fn_output_signature=tf.float32)})

        return [], serve_images, [tf.TensorSpec([None], tf.string, name="images")]

    if not tokenizer.is_plain:

        def serve_ids(token_ids):
            return answer({"token_ids": token_ids})

        return [], serve_ids, [tf.TensorSpec([None, None], tf.int32, "token_ids")]

    graph_tokenizer = GraphTokenizer(tokenizer)

    def serve_texts(*texts):
        if start:
            texts = (tf.strings.join([start, texts[0]]), *texts[1:])
        ids = frame_rows(
            list(map(graph_tokenizer.encode, texts)), tokenizer, model.config.max_sequence_length
        )
        return answer({"token_ids": ids.to_tensor(model.config.padding_id)})

    names_of_inputs = input_names(config)
    return (
        [graph_tokenizer],
        serve_texts,
        [tf.TensorSpec([None], tf.string, n) for n in names_of_inputs],
    )


def input_names(config: dict) -> list[str]:
    """Return the names of an endpoint's inputs: `texts`, or the names of several columns, or
    `text_1`, `text_2`, … if a column's name cannot be that of an input."""
    count = config.get("text_columns", 1)
    if count == 1:
        return ["texts"]
    names = config.get("columns", ())
    if len(names) == count and all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) for name in names):
        return list(names)
    return [f"text_{number}" for number in range(1, count + 1)]


def frame_rows(columns: Sequence[tf.RaggedTensor], tokenizer, max_length: int) -> tf.RaggedTensor:
    """Return `text.framing.frame` of each row, for ids in the graph.

    If the texts of a row are too long, all texts above one length are cut to it; the room that is
    left, less than a token for each of these texts, goes to the last of them.

    Args:
        columns: int32 (batch, any length), the ids of each text of a row.
        tokenizer: its `frame` is put around them.

    Returns: int32 (batch, any length).
    """
    lengths = tf.stack([ids.row_lengths() for ids in columns], axis=1)
    room = tf.cast(max_length - tokenizer.frame.size(len(columns)), lengths.dtype)
    levels = tf.range(room + 1)
    sums = tf.reduce_sum(tf.minimum(lengths[:, :, None], levels), axis=1)
    level = tf.reduce_sum(tf.cast(sums <= room, lengths.dtype), axis=1, keepdims=True) - 1
    kept = tf.minimum(lengths, level)
    cut = tf.cast(lengths > level, lengths.dtype)
    spare = room - tf.reduce_sum(kept, axis=1, keepdims=True)
    kept += cut * tf.cast(tf.cumsum(cut, axis=1, reverse=True) <= spare, lengths.dtype)
    before, between, after = (
        tf.tile(tf.constant([ids], tf.int32, [1, len(ids)]), [columns[0].nrows(), 1])
        for ids in tokenizer.frame[:3]
    )
    parts = [before]
    for ids, length in zip(columns, tf.unstack(kept, axis=1), strict=True):
        cut = tf.RaggedTensor.from_tensor(ids.to_tensor(), lengths=length)  # pyright: ignore
        parts += [cut, between]
    return tf.concat([*parts[:-1], after], axis=1)


def _pixels(image, size: int, method: dict | None = None):
    """Return the pixels of an image file's bytes, float32 (size, size, 3).

    TensorFlow cannot read the orientation in a photograph's Exif data: turn such an image upright
    first. The LiteRT and Keras classifiers of this package do it themselves.

    Args:
        method: see `images.resize`.
    """
    pixels = tf.cond(
        tf.io.is_jpeg(image),
        # Decodes as Pillow does; the default is faster and differs by a few colour levels.
        lambda: tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(image, channels=3, expand_animations=False),
    )
    if method is None:
        square = tf.image.resize(pixels, (size, size), antialias=True)
    else:
        square = _resize_as_pillow(pixels, size, method)
    return tf.ensure_shape(square, (size, size, 3))


_FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos3"}


def _resize_as_pillow(pixels, size: int, method: dict):
    """Return `images.resize` of uint8 (height, width, 3): rows, then columns, each rounded to whole
    colour levels; then the centre."""
    height, width = tf.unstack(tf.shape(pixels)[:2])
    new_height, new_width = method.get("height"), method.get("width")
    if "shortest_edge" in method:
        shortest, edge = tf.minimum(height, width), method["shortest_edge"]
        new_height, new_width = edge * height // shortest, edge * width // shortest
    if method["filter"] == "nearest":
        pixels = tf.gather(pixels, _nearest(height, new_height))
        pixels = tf.gather(pixels, _nearest(width, new_width), axis=1)
    else:
        for size_of in ([height, new_width], [new_height, new_width]):
            pixels = tf.image.resize(pixels, size_of, _FILTERS[method["filter"]], antialias=True)
            # Pillow adds a half and rounds down.
            pixels = tf.floor(tf.clip_by_value(pixels, 0.0, 255.0) + 0.5)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return tf.cast(pixels[top : top + size, left : left + size], tf.float32)


def _nearest(length, size):
    """Return the indices of the pixels that Pillow takes of `length`, int32 (size,); it adds the
    steps up, rounding each sum."""
    step = tf.cast(length, tf.float64) / tf.cast(size, tf.float64)
    steps = tf.concat([[step / 2], tf.fill([size - 1], step)], axis=0)
    return tf.cast(tf.floor(tf.cumsum(steps)), tf.int32)
