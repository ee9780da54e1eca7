"""Answers of a given form: every one is of it, whatever the model would like to write."""

import json
import re
import subprocess
import sys

import jsonschema
import numpy as np
import pandas
import pytest
from scipy.special import log_softmax
from tiny_models import tiny_config

from tfx_transformer import runtime
from tfx_transformer.errors import InputError
from tfx_transformer.generation import GenerationOptions, loop
from tfx_transformer.generation.constraint import Constraint, Vocabulary, check
from tfx_transformer.generation.preprocessors import ContinuationPreprocessor
from tfx_transformer.generation.text import TextGenerator, Writer
from tfx_transformer.text.tokenizer import Tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "名前": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["赤", "青い", "red"]}, "minItems": 1},
    },
    "required": ["名前", "age", "tags"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": ["number", "null"]},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS = [
    PERSON,
    TREE,
    {"type": "object"},
    {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    {"type": "string", "minLength": 5, "maxLength": 9},
    {"const": {"a": ["é", None, 1.5]}},
    {"anyOf": [{"type": "string", "pattern": "^[a-c]{3}$"}, {"type": "integer", "multipleOf": 7}]},
]


@pytest.fixture(scope="module")
def tokenizer():
    """Most Japanese characters, and all of other scripts, are several tokens of it."""
    texts = ['{"name": "cat", "age": 12, "tags": ["red", "赤"]}', "the cat sees a dog", "猫が見る"]
    return Tokenizer.train(texts * 4, 320)


class Noise:
    """An engine that likes other tokens at every step."""

    def __init__(self, tokenizer, context, seed=0, wish=None):
        size = tokenizer.vocabulary_size
        self.config = tiny_config(vocabulary_size=size, max_sequence_length=context)
        self.seed, self.wish = seed, wish

    def generate_ids(self, source_ids, options, on_ids=None):
        random, size = np.random.default_rng(self.seed), self.config.vocabulary_size
        (ids,) = source_ids
        limit = loop.new_limit(options, self.config.max_sequence_length - len(ids))

        def step(ids, index, cache):
            logits = random.normal(0, 3, (1, size)).astype("float32")
            if self.wish is not None:
                logits[:, self.wish] += 50
            return logits, cache

        draws, first = loop.uniforms(options, limit, 1), np.array([ids[-1]], "int32")
        return loop.decode(step, None, first, options, self.config, draws, on_ids=on_ids)


def generator(tokenizer, context=100, **wishes):
    engine = Noise(tokenizer, context, **wishes)
    return TextGenerator(engine, ContinuationPreprocessor(tokenizer))


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda one: json.dumps(one)[:30])
def test_every_answer_follows_its_schema(tokenizer, schema):
    least = Constraint(GenerationOptions(schema=schema), generator(tokenizer).vocabulary).least
    for seed in range(4):
        for limit in (least, least + 3, 70):
            answer = generator(tokenizer, seed=seed).generate(
                "x", schema=schema, max_new_tokens=limit, temperature=0.5 if seed % 2 else 0
            )
            jsonschema.validate(json.loads(answer), schema)


@pytest.mark.parametrize(
    "regex",
    ["[a-z]{3,8}\\.[0-9]{2}", "(猫|犬)+。", "a*", "[ぁ-ん]{2,4}", "x|(yz){2}", '/"\\\\'],
)
def test_every_answer_matches_its_expression(tokenizer, regex):
    for seed in range(6):
        answer = generator(tokenizer, seed=seed).generate("x", regex=regex, max_new_tokens=30)
        assert re.fullmatch(regex, answer), answer


def test_choices_are_whole_and_all_are_found(tokenizer):
    choices = ["猫", "猫と犬", "はい", "yes", "yes, please", "a.b*c(", "\U0001f63a", "(?i)", "a|b"]
    found = {generator(tokenizer, seed=n).generate("x", choices=choices) for n in range(60)}
    assert found == set(choices)


def test_only_several_texts_are_first_written_without_the_form(tokenizer):
    writes, counts = generator(tokenizer), []
    usual = writes.engine.generate_ids

    def generate_ids(source_ids, *options):
        counts.append(len(source_ids))
        return [row for ids in source_ids for row in usual([ids], *options)]

    writes.engine.generate_ids = generate_ids
    assert writes.generate("a", choices=("cat", "dog")) in ("cat", "dog")
    assert counts == [1]
    assert set(writes.generate(["a", "b"], choices=("cat", "dog"))) <= {"cat", "dog"}
    assert counts == [1, 2, 1, 1]


def test_who_never_ends_is_led_to_the_end(tokenizer):
    """Models that would write one token for ever: a letter, a blank, a bracket that opens."""
    for wish in ("a", " ", "[", "{", '"', "\\", "1"):
        (index,) = tokenizer.encode(wish)
        for schema in (PERSON, TREE, {"type": "object"}, {"type": "array"}):
            answer = generator(tokenizer, wish=index).generate("x", schema=schema)
            jsonschema.validate(json.loads(answer), schema)


def test_what_cannot_fit_is_said_at_once(tokenizer):
    with pytest.raises(InputError, match=r"needs 26 tokens; 9 may be written"):
        generator(tokenizer).generate("x", schema=PERSON, max_new_tokens=9)
    with pytest.raises(InputError, match="more than 100 tokens"):
        generator(tokenizer).generate("x", regex="(ab){9999}")


def test_a_prompt_is_cut_so_that_the_answer_fits(tokenizer):
    answer = generator(tokenizer).generate("the cat " * 500, schema=PERSON, truncate=True)
    jsonschema.validate(json.loads(answer), PERSON)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schema": {"type": "strin"}}, "Invalid type"),
        ({"schema": {"not": {"type": "string"}}}, "not"),
        ({"schema": {"$ref": "http://127.0.0.1:1/x"}}, "not fetch"),
        ({"schema": {"$ref": "file:///etc/passwd"}}, "not fetch"),
        ({"schema": {"type": "string", "pattern": "("}}, "unclosed group"),
        ({"schema": "["}, "schema cannot be read"),
        ({"schema": "[]"}, "not an object"),
        ({"schema": {"enum": ["a" * 99_999]}}, "65,536 characters"),
        ({"schema": {"type": float("nan")}}, "schema cannot be read"),
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": "(?=a)"}, "look-around"),
        ({"regex": r"(a)\1"}, "backreference"),
        ({"regex": "(" * 9_000 + ")" * 9_000}, "regex cannot be used"),
        ({"regex": "((a{1000}){1000}){1000}"}, "cannot be used|tokens"),
        ({"regex": ""}, "regex is ''"),
        ({"choices": ["a", "a"]}, "different texts"),
        ({"choices": [""]}, "none of them empty"),
        ({"choices": ["a"], "regex": "a"}, "exclude each other"),
        ({"choices": ["a"], "stop": "b"}, "exclude each other"),
        ({"choices": ["a"], "beams": 2}, "exclude each other"),
        ({"logprobs": 21}, "from 0 to 20"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_forms_that_cannot_be_used_are_refused(tokenizer, options, words):
    with pytest.raises(InputError, match=words):
        made = GenerationOptions(**options)
        check(made)
        generator(tokenizer).generate("x", **options)


def test_a_schema_of_a_file_and_its_depth(tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(PERSON), encoding="utf-8")
    assert json.loads(GenerationOptions(schema=file).schema) == PERSON
    deep = {"type": "string"}
    for _ in range(60):
        deep = {"type": "array", "items": deep}
    file.write_text(json.dumps(deep), encoding="utf-8")
    with pytest.raises(InputError, match=r"schema\.json: .*levels"):
        GenerationOptions(schema=file)


def test_a_space_that_the_tokenizer_puts_first_is_not_of_the_answer(tokenizer):
    """As in the tokenizers of Llama 2 and T5: the first token holds a space, the text does not."""
    vocabulary = Vocabulary(tokenizer, tokenizer.vocabulary_size, tokenizer.end_id, 99)
    (blank,), (other,) = tokenizer.encode(" "), tokenizer.encode("[")
    for leading, expected in ((False, False), (True, True)):
        vocabulary.leading_space = leading
        for options in ({"choices": ["[a"]}, {"schema": {"type": "array"}}):
            form = Constraint(GenerationOptions(**options), vocabulary)
            allowed = form.allowed()
            assert allowed[blank] == expected and allowed[other]


def test_log_probabilities_are_those_of_the_logits(tokenizer):
    """They are the model's, before a form or an option changes them."""
    size = tokenizer.vocabulary_size
    random = np.random.default_rng(3)
    steps = random.normal(0, 2, (3, 1, size)).astype("float32")
    a, b = tokenizer.encode("a") + tokenizer.encode("b")
    writer = Writer(tokenizer, logprobs=3)
    for logits, index in zip(steps, (a, b, tokenizer.end_id), strict=True):
        writer.choose(logits, 5, lambda given: {"ids": given})
        writer(np.array([index], "int32"))
    assert [token.token for token in writer.tokens] == ["a", "b"]
    for token, logits, index in zip(writer.tokens, steps[:2], (a, b), strict=True):
        expected = log_softmax(logits[0].astype("float64"))
        assert token.logprob == pytest.approx(expected[index], abs=1e-4)
        best = np.argsort(-expected)[:3]
        assert [name for name, _ in token.top] == tokenizer.tokens(best)
        assert [value for _, value in token.top] == pytest.approx(expected[best], abs=1e-4)


def test_engines_write_the_same_in_a_form(assistant):
    """By LiteRT and by Keras, whose whole loop is not compiled then."""
    from tfx_transformer import runtime
    from tfx_transformer.models.decoding import text_generator
    from tfx_transformer.models.saving import load

    litert, keras = runtime.load(assistant.path), text_generator(*load(assistant.path))
    texts = assistant.texts[:4]
    for options in (
        {"choices": ["white", "黒", "seven"]},
        {"regex": "[a-z]{2,5}"},
        {"schema": {"type": "object", "properties": {"a": {"type": "boolean"}}}},
    ):
        assert litert.generate(texts, **options) == keras.generate(texts, **options)
    ours = litert.answer(texts[0], logprobs=2)
    theirs = keras.answer(texts[0], logprobs=2)
    assert ours.text == theirs.text == litert.generate(texts[0]) and ours.tokens
    for one, other in zip(ours.tokens, theirs.tokens, strict=True):
        assert one.token == other.token and one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert one.top[0][0] == one.token, "the most probable was taken"


def test_commands(assistant, command, tmp_path):
    """Of `generate`, `predict` and `run.pyz`."""
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMAS[3]), encoding="utf-8")
    generate = ("generate", assistant.path, "What color is snow?")
    status, output, _ = command(*generate, "--schema", "schema.json", "--json")
    assert status == 0
    jsonschema.validate(json.loads(json.loads(output)["answers"][0]["answer"]), SCHEMAS[3])
    status, output, _ = command(*generate, "--choices=a", "--choices=b", "--logprobs=2", "--json")
    (answer,) = json.loads(output)["answers"]
    assert answer["answer"] in "ab" and answer["logprob"] == answer["tokens"][0]["logprob"]
    assert len(answer["tokens"][0]["top"]) == 2
    status, output, _ = command(*generate, "--logprobs=0")
    assert output.count("%") > 1
    for flags, words in (
        (["--regex=("], "regex cannot be used"),
        (["--schema=none.json"], "none.json"),
        (["--choices=a", "--engine=litertlm"], "choices"),
        (["--choices=a", "--engine=saved_model"], "greedily"),
    ):
        if "litertlm" not in str(flags) or (assistant.path / "model.litertlm").exists():
            status, _, errors = command(*generate, *flags)
            assert status == 2 and words in errors

    (tmp_path / "in.csv").write_text("instruction\nA?\nB?\n" + "long " * 300, encoding="utf-8")
    predict = ("predict", assistant.path, "in.csv", "--save=out.csv", "--schema=schema.json")
    assert command(*predict)[0] == 0
    answers = pandas.read_csv(tmp_path / "out.csv")["answer"]
    assert len(answers) == 3
    for answer in answers:
        jsonschema.validate(json.loads(answer), SCHEMAS[3])
    drawn = {"temperature": 1.5, "repetition_penalty": 1.3, "seed": 7, "max_new_tokens": 6}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in drawn.items()]
    assert command(*predict[:3], "--save=drawn.csv", *flags)[0] == 0
    model, texts = runtime.load(assistant.path), ["A?", "B?", "long " * 300]
    found = pandas.read_csv(tmp_path / "drawn.csv", keep_default_na=False)["answer"]
    assert [*found] == model.generate(texts, truncate=True, **drawn)
    assert [*found] != model.generate(texts, truncate=True, max_new_tokens=6)
    status, _, errors = command(*predict, "--logprobs=1")
    assert status == 2 and "--logprobs has no column" in errors

    done = subprocess.run(
        [sys.executable, assistant.path / "run.pyz", "A?", "--regex=[0-9]{3}", "--temperature=1"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert re.fullmatch("[0-9]{3}\n", done.stdout), done.stderr
