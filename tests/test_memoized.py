"""A trained model answers each prompt once, and its exports are compared with these answers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_models import tiny_config

import tfx_transformer as tfx
from tfx_transformer.export import _computes_as_saved
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.preprocessors import new_preprocessor
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.decoding import KerasEngine
from tfx_transformer.models.encoders import Classifier
from tfx_transformer.models.memoized import MemoizedEngine
from tfx_transformer.models.predicting import EncoderEngine
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.training.run import Run


class Backwards:
    """Answers a prompt with its tokens from the last to the first, and the end; counts."""

    config: Any = SimpleNamespace(padding_id=0)

    def __init__(self):
        self.asked = []

    def generate_ids(self, source_ids, options, on_ids=None):
        self.asked.append([list(ids) for ids in source_ids])
        longest = max(map(len, source_ids)) + 1
        rows = [[*reversed(ids), 1, *[0] * (longest - len(ids) - 1)] for ids in source_ids]
        return np.array(rows, "int32")

    def session(self) -> Any:
        return "a session"


def test_a_run_writes_each_held_out_text_once():
    tokenizer = tfx.Tokenizer.train(["a cat and a dog"], 270)
    old, new = Backwards(), Backwards()
    for engine in (old, new):
        engine.config = tiny_config(vocabulary_size=tokenizer.vocabulary_size)
    preprocessor = new_preprocessor("seq2seq", tokenizer)
    texts = ["a cat", "a dog", "and a cat"]
    run = object.__new__(Run)
    run.past = SimpleNamespace(path="own", open=lambda: TextGenerator(old, preprocessor))
    generator, run.answering = TextGenerator(new, preprocessor), None
    run._written_for = generator, texts, texts
    assert run._compare().count == 3
    assert run._write(generator, texts) == generator.generate(texts)
    assert [len(asked) for asked in new.asked] == [3, 3], "the second time by `generate` alone"


def test_a_prompt_is_answered_once():
    plain = Backwards()
    engine = MemoizedEngine(plain)
    greedy = GenerationOptions()
    assert engine.generate_ids([[5, 7], [3]], greedy).tolist() == [[7, 5, 1], [3, 1, 0]]
    answers = engine.generate_ids([[3], [9, 9, 2], [5, 7], [9, 9, 2], [3]], greedy)
    assert answers.dtype == "int32"
    assert answers.tolist() == [
        [3, 1, 0, 0],
        [2, 9, 9, 1],
        [7, 5, 1, 0],
        [2, 9, 9, 1],
        [3, 1, 0, 0],
    ]
    assert plain.asked == [[[5, 7], [3]], [[9, 9, 2]]]
    engine.generate_ids([[5, 7]], GenerationOptions(free=True))
    assert len(plain.asked) == 2, "a model without tools is always free"
    for options in ({"max_new_tokens": 2}, {"beams": 2}):
        for _ in range(2):
            engine.generate_ids([[5, 7]], GenerationOptions(**options))
    assert len(plain.asked) == 4, "once with each other option"
    for _ in range(2):
        engine.generate_ids([[5, 7]], GenerationOptions(temperature=0.5))
        engine.generate_ids([[5, 7]], greedy, lambda ids: None)
    assert len(plain.asked) == 8, "what is drawn or watched is computed each time"
    assert engine.session() == "a session" and engine.config is plain.config


@pytest.mark.parametrize(("task", "settings"), [(CausalLM, {}), (Classifier, {"num_classes": 3})])
def test_exports_are_compared_with_a_model_that_computes_as_they_do(task, settings):
    def answering(model):
        return SimpleNamespace(engine=(KerasEngine if model.writes else EncoderEngine)(model))

    config = tiny_config(**settings)
    model = task(config)
    assert _computes_as_saved(answering(model))
    memoized = answering(model)
    if model.writes:
        memoized.engine = MemoizedEngine(memoized.engine)
    assert _computes_as_saved(memoized)
    assert not _computes_as_saved(answering(task(config, dtype="mixed_bfloat16")))
    tfx.add_adapters(model, 2, 4)
    assert not _computes_as_saved(answering(model)) and not _computes_as_saved(memoized)
    assert not _computes_as_saved(None)
    assert not _computes_as_saved(SimpleNamespace(engine=Backwards())), "another engine"
