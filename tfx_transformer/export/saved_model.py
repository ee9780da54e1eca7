"""A SavedModel that takes texts and returns texts: tokenizer, decode loop and detokenizer are in
its graph, in core TensorFlow operations."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.export import saved_model_file
from tfx_transformer.export.graph_tokenizer import GraphTokenizer
from tfx_transformer.export.serving import encoder_serving
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.generation.encoders import (
    ChatEncoder,
    ContinuationEncoder,
    Encoder,
    new_encoder,
)
from tfx_transformer.generation.text import Prompt, TextGenerator, before_stop, is_one_prompt
from tfx_transformer.models.decoding import generate, pad_source
from tfx_transformer.models.saving import load


def saved_model(path: str | os.PathLike) -> None:
    """Adds `saved_model/` to a bundle.

    Its signature `serve` takes `texts`, string (batch,), and returns `texts`, string (batch,): the
    greedy answer to each, equal to the Keras model's. Longer texts are cut to what the model reads.
    Of a classifier or an embedder see `serving.encoder_serving`; a SavedModel of images does not
    read their Exif orientation. Where a checkpoint's tokenizer cannot run in a graph, token ids go
    in and come out instead: see `_id_serving`.
    """
    model, tokenizer = load(path)
    with bundle.updating(path) as folder:
        write_saved_model(folder, model, tokenizer)


def write_saved_model(folder: Path, model, tokenizer) -> None:
    """Write `saved_model/` into the folder of a bundle, whose model and tokenizer are loaded."""
    if model.task in ("classification", "embedding"):
        parts, serve, specs = encoder_serving(model, tokenizer, bundle.read_config(folder))
    elif model.task == "masked":
        raise InputError("a masked model is a base and answers nothing.\n  Fine-tune it.")
    else:
        parts, serve, specs = _text_serving(model, tokenizer)
    shutil.rmtree(folder / bundle.SAVED_MODEL, ignore_errors=True)
    archive = keras.export.ExportArchive()
    for part in (model, *parts):
        archive.track(part)
    archive.add_endpoint("serve", serve, specs)
    with contextlib.redirect_stdout(sys.stderr):
        archive.write_out(str(folder / bundle.SAVED_MODEL), verbose=False)
    saved_model_file.check(folder / bundle.SAVED_MODEL)


def _text_serving(model, tokenizer):
    """The endpoint of a model that writes, as `serving.encoder_serving`."""
    if not tokenizer.is_plain:
        return _id_serving(model)
    config = model.config
    words = GraphTokenizer(tokenizer)
    prompts = _prompts(new_encoder(model.task, tokenizer), config.max_sequence_length)

    def serve(texts):
        prompt_ids = prompts(words.encode(texts))
        lengths = tf.cast(prompt_ids.row_lengths(), tf.int32)
        token_ids = prompt_ids.to_tensor(config.padding_id)
        return {"texts": words.decode(_greedy(model, token_ids, lengths))}

    return [words], serve, [tf.TensorSpec([None], tf.string, name="texts")]


def _id_serving(model):
    """The endpoint of a model whose texts become ids outside: `token_ids` int32 (batch, length),
    filled up with padding, and `lengths` int32 (batch,) -> `token_ids` int32 (batch, limit), the
    greedy answers."""

    def serve(token_ids, lengths):
        return {"token_ids": _greedy(model, token_ids, lengths)}

    specs = [tf.TensorSpec([None, None], tf.int32, "token_ids")]
    return [], serve, [*specs, tf.TensorSpec([None], tf.int32, "lengths")]


def _greedy(model, token_ids, lengths):
    """int32 (batch, limit): the answers to prompts of these lengths."""
    limits = tf.zeros_like(lengths) + model.room(lengths)
    # Without any text there is no longest answer either.
    longest = tf.maximum(tf.reduce_max(limits), 1)
    unused = tf.zeros([longest, tf.shape(lengths)[0]])
    rows = generate(model, token_ids, lengths, unused, GenerationOptions())
    # A long prompt leaves less room than its neighbours have.
    beyond = tf.range(tf.shape(rows)[1]) >= limits[:, None]
    return tf.where(beyond, model.config.padding_id, rows)


def _prompts(encoder: Encoder, context: int) -> Callable[[tf.RaggedTensor], tf.RaggedTensor]:
    """What `encoder.encode` does, for ids in the graph: cut to fit, and framed.

    Raises:
        InputError: a chat template that does more than frame a message.
    """
    if isinstance(encoder, ContinuationEncoder):

        def continuation(ids):
            # One slot is for the answer. What follows depends most on the end of a text.
            ids = ids[:, -(context - 1) :]
            empty = ids.row_lengths()[:, None] == 0
            ends = tf.fill([ids.nrows(), 1], encoder.end_id)
            return tf.concat([tf.ragged.boolean_mask(ends, empty), ids], axis=1)

        return continuation
    before, after = _frame(encoder)
    longest = context - before.shape[0] - after.shape[0] - isinstance(encoder, ChatEncoder)

    def framed(ids):
        sides = [tf.tile([side], [ids.nrows(), 1]) for side in (before, after)]
        return tf.concat([sides[0], ids[:, :longest], sides[1]], axis=1)

    return framed


def _frame(encoder: Encoder) -> tuple[tf.Tensor, tf.Tensor]:
    """The ids before and after those of the text in every prompt."""
    probes = ("a", "b")
    a, b = (encoder.encode(probe) for probe in probes)
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    before, after = a[:place], a[place + 1 :]
    for probe in (*probes, "Two words.", " x\n", "犬"):
        if encoder.encode(probe) != [*before, *encoder.tokenizer.encode(probe), *after]:
            raise InputError(
                "the chat template does more than put tokens before and after a message, which a "
                "SavedModel cannot do.\n  Export to litert instead."
            )
    return tuple(tf.constant(side, tf.int32, shape=[len(side)]) for side in (before, after))


def _only_message(text: Prompt) -> str:
    if isinstance(text, str):
        return text
    if len(text) > 1:
        raise InputError(
            "the SavedModel takes one message, not a conversation.\n  Use --engine litert or keras."
        )
    return text[0]["content"]


class SavedModelGenerator:
    """Answers texts with the SavedModel of a bundle, as `generation.text.TextGenerator` does.

    Args:
        path: the bundle's folder.
        batch_size: most texts that run together.

    Raises:
        InputError: the bundle holds no SavedModel, or one that must not be run: see
            `saved_model_file.check`.
    """

    def __init__(self, path: str | os.PathLike, batch_size: int = 64) -> None:
        folder = Path(path, bundle.SAVED_MODEL)
        if not folder.is_dir():
            raise InputError(
                f"{path} holds no SavedModel.\n"
                f"  Make one: tfx-transformer export {path} --to saved_model"
            )
        self.model = saved_model_file.load(folder)
        self.batch_size = batch_size
        self._by_ids = None
        tokenizer = bundle.read_tokenizer(path)
        if not tokenizer.is_plain:
            config = bundle.read_config(path)
            engine = _IdEngine(self.model, TransformerConfig.from_dict(config["architecture"]))
            self._by_ids = TextGenerator(engine, new_encoder(config["task"], tokenizer))

    def generate(
        self, texts: Prompt | Sequence[Prompt], truncate: bool = True, **options
    ) -> str | list[str]:
        """The greedy answer to a text, or the list of those for a list; longer texts are cut to
        what the model reads.

        Raises:
            InputError: `options` ask for anything but greedy decoding up to a stop text, or a
                conversation has more than one message.
        """
        single = is_one_prompt(texts)
        texts = [_only_message(text) for text in ([texts] if single else texts)]
        stop = GenerationOptions(**options).stop
        if GenerationOptions(**options) != GenerationOptions(stop=stop):
            raise InputError(
                "the SavedModel decodes greedily, to the end or a stop text.\n"
                "  For beams, sampling and the like use --engine litert or keras."
            )
        if self._by_ids is not None:
            answers = self._by_ids.generate(texts, truncate=truncate)
        else:
            answers = self._served(texts)
        answers = [before_stop(answer, stop) for answer in answers]
        return answers[0] if single else answers

    def _served(self, texts: Sequence[str]) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.model.serve(tf.constant(texts[start : start + self.batch_size]))
            answers += [text.decode("utf-8") for text in batch["texts"].numpy()]
        return answers


class _IdEngine:
    """A SavedModel that takes ids, as `generation.text.Engine`."""

    def __init__(self, served, config: TransformerConfig) -> None:
        self.served, self.config = served, config

    def generate_ids(self, source_ids: Sequence[Sequence[int]], options, on_ids=None):
        """The greedy answers, int32 (batch, limit)."""
        token_ids = pad_source(source_ids, self.config.padding_id)
        lengths = tf.constant([len(ids) for ids in source_ids], tf.int32)
        return self.served.serve(tf.constant(token_ids), lengths)["token_ids"].numpy()
