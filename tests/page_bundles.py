"""Small models for pages, weights at random, exported once for all tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

TOKENIZERS = Path(__file__).parent / "conformance" / "tokenizers"
TAGS = ["O", "B-NAME", "I-NAME", "B-PLACE", "I-PLACE"]


@pytest.fixture(scope="session")
def page_bundles(encoder_words, tmp_path_factory) -> Path:
    """A folder of bundles: of a translator, of models that continue texts ("writer", and "pieces"
    with SentencePiece's tokenizer) and chat ("assistant"), of a tagger and a regressor."""
    from tiny_models import tiny_causal, tiny_encoder, tiny_model

    import tfx_transformer as tfx

    def tagger(**settings):
        return tiny_encoder(tfx.Tagger, num_classes=len(TAGS), **settings)

    def regressor(**settings):
        return tiny_encoder(tfx.Regressor, **settings)

    folder = tmp_path_factory.mktemp("page_bundles")
    chatting = tfx.Tokenizer.train(["the cat sees a dog 猫が見る"] * 5, 280, tfx.ROLE_TOKENS)
    tfx.ChatTemplate.of(chatting)
    pieces = tfx.Tokenizer.from_pretrained(TOKENIZERS / "mistral")
    pieces.chat_template = None
    long = {"max_sequence_length": 61}
    made = {
        "pieces": (tiny_causal, pieces, long, {}),
        "translator": (tiny_model, encoder_words, long, {}),
        "writer": (tiny_causal, encoder_words, long, {}),
        "assistant": (tiny_causal, chatting, long, {}),
        "tagger": (tagger, encoder_words, {}, {"labels": TAGS}),
        "regressor": (regressor, encoder_words, {}, {}),
    }
    for name, (make, tokenizer, settings, details) in made.items():
        size = tokenizer.vocabulary_size
        model = make(vocabulary_size=size, position="rotary", **settings)
        tfx.save(folder / name, model, tokenizer, **details)
        tfx.export.litert(folder / name)
    return folder
