"""What a SavedModel of an encoder-only model does: strings or encoded images to labels or vectors,
in core TensorFlow operations."""

from __future__ import annotations

import tensorflow as tf

from tfx_transformer.errors import InputError
from tfx_transformer.export.graph_tokenizer import GraphTokenizer
from tfx_transformer.prediction.classification import read_labels


def encoder_serving(model, tokenizer, config: dict):
    """The endpoint of a `Classifier` or an `Embedder`.

    Args:
        model, tokenizer: of the bundle.
        config: of `bundle.read_config`.

    Returns: what the archive must track beside the model, the function, and its one input: `texts`
        or `images`, string (batch,). The function returns a dictionary: "probabilities" float32
        (batch, classes) and "labels" string (batch,), the most probable; or "embeddings" float32
        (batch, hidden_dim).

    Raises:
        InputError: the model reads several texts of each row, or its classes have no names.
    """
    size, names = model.config.image_size, []
    if model.task == "classification":
        names = read_labels(config, model.config.num_classes, "the bundle")
    if config.get("text_columns", 1) > 1:
        raise InputError(
            "the model reads several columns, and a SavedModel takes one text a row.\n"
            "  Export to litert instead."
        )

    def answer(inputs):
        output = tf.cast(model(inputs, training=False), tf.float32)
        if model.task == "embedding":
            return {"embeddings": output}
        best = tf.argmax(output, axis=1)
        probabilities = tf.sigmoid(output) if model.config.multi_label else tf.nn.softmax(output)
        return {"probabilities": probabilities, "labels": tf.gather(tf.constant(names), best)}

    if size:

        def serve_images(images):
            decode = tf.function(lambda image: _pixels(image, size))
            return answer({"images": tf.map_fn(decode, images, fn_output_signature=tf.float32)})

        return [], serve_images, tf.TensorSpec([None], tf.string, name="images")

    words = GraphTokenizer(tokenizer)
    longest = model.config.max_sequence_length - 2

    def serve_texts(texts):
        ids = words.encode(texts)
        ends = [tf.fill([ids.nrows(), 1], i) for i in (tokenizer.start_id, tokenizer.end_id)]
        framed = tf.concat([ends[0], ids[:, :longest], ends[1]], axis=1)
        return answer({"token_ids": framed.to_tensor(model.config.padding_id)})

    return [words], serve_texts, tf.TensorSpec([None], tf.string, name="texts")


def _pixels(image, size: int):
    """float32 (size, size, 3) of the bytes of an image file. The Exif orientation is not read."""
    pixels = tf.cond(
        tf.io.is_jpeg(image),
        # As Pillow decodes; the default is faster and differs by a few steps of colour.
        lambda: tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(image, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(tf.image.resize(pixels, (size, size), antialias=True), (size, size, 3))
