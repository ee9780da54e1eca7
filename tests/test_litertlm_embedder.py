"""Embedders in Google's LiteRT-LM: `.litertlm` files whose vectors are those of the model."""

import json
import re

import litertlm_server
import numpy as np
import pytest
import tokenizers
from encoder_bundles import WORDS
from tiny_models import tiny_encoder
from tokenizers import models, normalizers, pre_tokenizers, processors

from tfx_transformer import bundle, export
from tfx_transformer.errors import InputError
from tfx_transformer.export.litertlm_embedder import convert_embedder, pack_models
from tfx_transformer.models.encoders import Embedder
from tfx_transformer.models.predicting import predictor
from tfx_transformer.models.saving import save
from tfx_transformer.runtime import litertlm, litertlm_embedder
from tfx_transformer.text.tokenizer import Tokenizer

litert_lm = pytest.importorskip("litert_lm", reason="pip install litert-lm")
litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)

LONGEST = 19
TEXTS = ["the cat", "a dog sees 猫!", "</s>", "<s>the</s>", "", " ", "\0a", "Ü🙂\n猫が"]
LONG = "the cat sees a dog and 猫 " * 9
CUT = litert_lm.InputOverflowStrategy.TRUNCATE


def tiny_embedder(size, **settings):
    widths = {"hidden_dim": 36, "embedding_dim": 20, "intermediate_dim": 29, "num_layers": 1}
    return tiny_encoder(Embedder, vocabulary_size=size, **{**widths, **settings})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A bundle of an embedder without a default prompt, with its `.litertlm` file."""
    tokenizer = Tokenizer.train([" ".join(WORDS)] * 5, 270)
    model = tiny_embedder(tokenizer.vocabulary_size, num_segments=2, bag_dim=7, projections=[
        {"width": 31, "activation": "tanh", "use_bias": True}
    ])  # fmt: skip
    made = tmp_path_factory.mktemp("litertlm") / "vectors"
    save(made, model, tokenizer)
    export.litertlm(made, "float32")
    return made


@pytest.fixture(scope="module")
def by_keras(path):
    from tfx_transformer.models.saving import load

    return predictor(*load(path), ())


@pytest.fixture(scope="module")
def engine(path):
    return litert_lm.EmbeddingEngine(str(path / bundle.LITERTLM), cache_dir=":nocache")


def vector(engine, text, **options):
    return np.array(engine.compute_embedding(text, litert_lm.EmbeddingOptions(**options)).embedding)


def test_vectors_are_those_of_the_model(engine, by_keras):
    for text, expected in zip(TEXTS, by_keras.embed(TEXTS), strict=True):
        assert vector(engine, text) == pytest.approx(expected, abs=1e-6)
    assert np.ptp(by_keras.embed(TEXTS), axis=0).max() > 0.1, "texts have different vectors"


def test_texts_that_are_too_long(engine, by_keras):
    (expected,) = by_keras.embed([LONG])
    assert vector(engine, LONG, input_overflow_strategy=CUT) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(RuntimeError, match="Failed to compute"):
        vector(engine, LONG)


def test_the_runtime_embeds(path, by_keras):
    made = litertlm_embedder.load(path)
    assert made.embed([*TEXTS, LONG]) == pytest.approx(by_keras.embed([*TEXTS, LONG]), abs=1e-6)


def test_it_is_verified(path):
    assert bundle.read_config(path)["litertlm"] == {"variant": "float32", "context": LONGEST}
    results = export.verify(path, TEXTS)
    assert {name: result["identical"] for name, result in results.items()} == {
        "LiteRT-LM": len(TEXTS)
    }
    assert bundle.read_config(path)["verified"]["LiteRT-LM"]["smallest_cosine"] == 1.0
    bundle.verify(path)


def test_a_model_of_vectors_does_not_write(path):
    with pytest.raises(InputError, match="it is of an embedder"):
        litertlm.load(path)


def test_pairs_of_tokens_are_refused(tmp_path):
    tokenizer = Tokenizer.train([" ".join(WORDS)] * 5, 270)
    save(tmp_path / "a", tiny_embedder(tokenizer.vocabulary_size, ngram_buckets=64), tokenizer)
    with pytest.raises(InputError, match="ngram_buckets(.|\n)*Export it --to litert"):
        export.litertlm(tmp_path / "a", "float32")
    assert not (tmp_path / "a" / bundle.LITERTLM).exists()


# Tokenizers of checkpoints


def word_piece(**options):
    """As BERT's, in lower case."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = ["the", "cat", "##at", "##s", "##o", "dog", "query", ":"]
    pieces = [*specials, *"abcdeghnost!猫見[]", *words]
    made = tokenizers.Tokenizer(
        models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]")
    )
    made.add_special_tokens(specials)
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made, {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}


def unigram(before=(), after=("</s>",)):
    """As XLM-RoBERTa's or T5's."""
    specials = ["<pad>", "<unk>", "<s>", "</s>"]
    scores = [(p, 0.0) for p in specials]
    pieces = ["▁", "▁the", "▁cat", "cat", *"acdegostU!猫見ï:", "▁a", "▁query"]
    scores += [(piece, -1.0 - i / 7) for i, piece in enumerate(pieces)]
    made = tokenizers.Tokenizer(models.Unigram(scores, unk_id=1))
    made.add_special_tokens(specials)
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    ids = {p: i for i, p in enumerate(specials)}
    used = [(p, ids[p]) for p in dict.fromkeys((*before, *after))]
    if used:
        single = " ".join([*before, "$A", *after])
        made.post_processor = processors.TemplateProcessing(single=single, special_tokens=used)
    return made, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


FOREIGN = {
    "bert": word_piece,
    "t5": unigram,
    "xlm-roberta": lambda: unigram(("<s>",)),
    "two before": lambda: unigram(("<s>", "<unk>")),
    "nothing after": lambda: unigram(("<s>",), ()),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A model and its two TFLite files; each test packs them with another tokenizer."""
    model = tiny_embedder(
        40, position="rotary", pooling="mean", normalize=False,
        prompts={"query": "query: "}, default_prompt="query",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("converted")
    with export.Converter() as converter:
        return model, convert_embedder(model, converter, folder / "model.tflite", "float32")


@pytest.mark.parametrize("name", FOREIGN)
def test_tokenizers_of_checkpoints(converted, tmp_path, name):
    made, settings = FOREIGN[name]()
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    model, files = converted
    file = tmp_path / bundle.LITERTLM
    pack_models(file, files, tokenizer, model.config)
    embedder = litertlm_embedder.LiteRTLMEmbedder(file, normalize=False)
    texts = ["The cats!", "猫 見 dog", "[CLS] the [SEP]", "<s>the</s>", "a ï a", LONG]
    expected = predictor(model, tokenizer, ()).embed(texts)
    assert embedder.embed(texts) == pytest.approx(expected, abs=2e-6)
    assert np.linalg.norm(expected, axis=1).max() > 1.1, "lengths are not 1"


# Google's server


@pytest.mark.slow
def test_it_is_served(path, by_keras, tmp_path):
    """`litert-lm serve` answers /v1/embeddings."""
    with litertlm_server.serving(tmp_path / "home") as send:
        answer = json.loads(send("embeddings", model=str(path / bundle.LITERTLM), input=TEXTS[:4]))
    vectors = np.array([one["embedding"] for one in answer["data"]])
    assert vectors == pytest.approx(by_keras.embed(TEXTS[:4]), abs=1e-6)
    for left in path.glob(bundle.LITERTLM + "?*"):
        assert re.search("cache", left.name)
