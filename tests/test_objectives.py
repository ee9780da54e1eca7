"""What pre-training can aim at, and that each objective's parts fit together."""

import numpy as np
import pytest
from tiny_models import tiny_config

from tfx_transformer.data.corpus import Piece, write_tokens
from tfx_transformer.errors import InputError
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.encoders import MaskedLM
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.text.prompts import ROLE_TOKENS
from tfx_transformer.text.tokenizer import MASK_TOKEN, Tokenizer
from tfx_transformer.training import objective

PARTS = {
    "causal": (CausalLM, ROLE_TOKENS, {"token_accuracy", "bits_per_byte"}),
    "masked": (MaskedLM, (MASK_TOKEN,), {"token_accuracy", "perplexity"}),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_fit_together(name, tmp_path):
    goal, (model, special, measured) = objective(name), PARTS[name]
    assert (goal.model, goal.task, tuple(goal.special_tokens)) == (model, name, tuple(special))
    tokenizer = Tokenizer.train([], 262, goal.special_tokens)
    pieces = [Piece(f"The cat sleeps {n} times.", True, "a.txt") for n in range(9)]
    tokens = write_tokens(pieces, tokenizer, tmp_path / "tokens.bin")
    new = goal.model(tiny_config(vocabulary_size=tokenizer.vocabulary_size))
    new.compile("sgd", weighted_metrics=goal.measures(tokens), run_eagerly=True)
    batches = goal.batches(tokens, tokenizer, length=17, batch_size=4, shuffle=False)
    found = new.evaluate(batches, verbose=0, return_dict=True)
    assert set(found) == {"loss", *measured}
    assert all(np.isfinite(value) for value in found.values())
    # XLA compiles anew for every shape: it may be asked for only where there is one.
    lengths = {inputs["token_ids"].shape[1] for inputs, *_ in batches.as_numpy_iterator()}
    assert lengths == {17} or not goal.jit_compile
    writer, prompts = goal.writer(new, tokenizer), goal.prompts(tokens, tokenizer)
    if name == "causal":
        assert isinstance(writer, TextGenerator) and prompts
    else:
        assert (writer, prompts) == (None, [])


@pytest.mark.parametrize("name", ["", "bert", "Masked"])
def test_another_objective_is_refused(name):
    with pytest.raises(InputError) as caught:
        objective(name)
    assert str(caught.value) == (f"there is no objective {name!r}.\n  Objectives: causal, masked.")
