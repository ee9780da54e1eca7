"""One small translator, trained and exported once for all tests that need a real bundle."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

MAX_LENGTH = 24
BEAMS = 4


@dataclass(frozen=True)
class Trained:
    """A bundle with every export; tests read it, and change only a `copy`.

    texts: sources that it answers, some of them trained on; verified: what its export returned.
    """

    path: Path
    texts: list[str]
    verified: dict

    def copy(self, folder: Path) -> Path:
        """The same bundle in another folder."""
        return shutil.copytree(self.path, folder / self.path.name)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """A "nano" translator that has seen 150 sentences often enough to answer each differently."""
    import tfx_transformer as tfx

    tfx.training.set_random_seed(1)
    pairs = tfx.data.read_pairs(tfx.resources.dataset_path("en_ja.csv"))
    train = pairs.take(range(0, 2100, 14))
    tokenizer = tfx.Tokenizer.train(train.texts(), 500)
    config = tfx.TransformerConfig.of_size(
        "nano", tokenizer.vocabulary_size, dropout=0.0, max_sequence_length=MAX_LENGTH
    )
    model = tfx.Seq2SeqLM(config)
    model.compile(tfx.training.adamw(3e-3, 20))
    batches = tfx.data.pairs(train, tokenizer, batch_size=32, max_length=MAX_LENGTH, seed=1)
    model.fit(batches, epochs=30, verbose=0)

    path = tmp_path_factory.mktemp("trained") / "small"
    tfx.save(path, model, tokenizer, scores={"bleu": 12.5}, data={"file": "en_ja.csv"})
    held_out = tfx.data.read_pairs(tfx.resources.dataset_path("en_ja_heldout.csv"))
    texts = train.source[:40] + held_out.source[:40]
    return Trained(path, texts, tfx.export.everything(path, texts, beams=BEAMS))
