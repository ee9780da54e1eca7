"""One small assistant, trained and exported once for all tests that need a chat model's bundle."""

import pytest
from trained import Trained

# A prefill of 64 and one of 16 tokens do not fit into it together.
CONTEXT = 79


@pytest.fixture(scope="session")
def assistant(tmp_path_factory) -> Trained:
    """A "nano" chat model that has seen 150 instructions often enough to tell them apart."""
    import tfx_transformer as tfx

    tfx.training.set_random_seed(1)
    read = tfx.data.read_instructions(tfx.resources.dataset_path("instructions.csv"))
    train = read.take(range(0, len(read), 12))
    tokenizer = tfx.Tokenizer.train(train.texts(), 500, tfx.ROLE_TOKENS)
    template = tfx.ChatTemplate.of(tokenizer)
    config = tfx.TransformerConfig.of_size(
        "nano", tokenizer.vocabulary_size, "llama", dropout=0.0, max_sequence_length=CONTEXT
    )
    model = tfx.CausalLM(config)
    model.compile(tfx.training.adamw(4e-3, 20))
    batches = tfx.data.instructions(train, template, batch_size=4, max_length=CONTEXT, seed=1)
    model.fit(batches, epochs=15, verbose=0)

    path = tmp_path_factory.mktemp("assistant") / "assistant"
    tfx.save(path, model, tokenizer, scores={"exact_match": 0.5}, example="What color is snow?")
    held_out = tfx.data.read_instructions(tfx.resources.dataset_path("instructions_heldout.csv"))
    texts = list(dict.fromkeys(train.first_prompts()[::2] + held_out.first_prompts()[:45]))
    written = list(zip(train.prompts(), train.answers(), strict=True))
    return Trained(path, texts, tfx.export.everything(path, texts, written=written))
