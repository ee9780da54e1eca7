"""The recipe `pretraining` from text to a bundle that continues it, and what is done with that."""

import csv
import json
import math
import os

import keras
import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaks import leaks
from pages import report_of
from processes import RUN_PYZ, TRAINING, python

from tfx_transformer import bundle, cli, export, resources, runtime
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data import blocks, read_corpus
from tfx_transformer.data.masking import mask_tokens as masked_batches
from tfx_transformer.errors import InputError
from tfx_transformer.export.saved_model_generator import SavedModelGenerator
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.saving import load, parameters, save
from tfx_transformer.models.tasks import CausalLM, Seq2SeqLM
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import run as training_run

# Tokens are the 256 bytes and six special ones; no prefill fits into the context but that of 16.
CONTEXT, SPECIAL, END = 29, 6, 2
SETTINGS = {
    "text": "texts",
    "share": 0.2,
    "name": "mine",
    "size": "nano",
    "vocabulary_size": 262,
    "context": CONTEXT,
    "steps": 40,
    "validate_every": 20,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "warmup_steps": 1,
}
# Of a masked model there are four special tokens, and the shapes of batches differ.
MASKED = SETTINGS | {
    "objective": "masked",
    "name": "masked",
    "vocabulary_size": 260,
    "steps": 20,
    "validate_every": 10,
}
HELD_OUT = "A cat sleeps.\n犬が走る。\n"


def without_xla(patch):
    """XLA compiles longer than a small model trains."""
    original = CausalLM.compile
    patch.setattr(CausalLM, "compile", lambda *a, **k: original(*a, **k | {"jit_compile": False}))


def two_exports(path, texts, generator, int4=None):
    """Export and verify two files: tests of exports have the int8 file."""
    export.saved_model(path)
    export.litert(path)
    return export.verify(path, texts, generator=generator)


@pytest.fixture(scope="module")
def recipe():
    return cli.recipe_main("pretraining")


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """The folder in which the recipe has run, and what it returned."""
    folder = tmp_path_factory.mktemp("work")
    paragraphs = resources.dataset_path("pretraining.txt").read_text("utf-8").split("\n\n")
    (folder / "texts" / "more").mkdir(parents=True)
    (folder / "texts" / "a.txt").write_text("\n\n".join(paragraphs[:3]), encoding="utf-8")
    (folder / "texts" / "more" / "b.md").write_text("\n\n".join(paragraphs[3:6]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        without_xla(patch)
        patch.setattr("tfx_transformer.export.everything", two_exports)
        patch.setattr("tfx_transformer.export.signatures.DRAFTED", 1 << 30)  # without drafts
        patch.chdir(folder)
        return folder, recipe(**SETTINGS)


@pytest.fixture(scope="module")
def path(finished):
    return finished[0] / "saved_models" / "mine"


@pytest.fixture(scope="module")
def by_keras(path):
    return text_generator(*load(path))


@pytest.fixture(scope="module")
def by_litert(path):
    return runtime.load(path)


@pytest.fixture(scope="module")
def by_saved_model(path):
    return SavedModelGenerator(path)


@pytest.fixture
def quick(finished, bare, monkeypatch):
    """In that folder, without XLA, exports and pictures."""
    without_xla(monkeypatch)
    monkeypatch.chdir(finished[0])


def read_json(path):
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def ids_of(path):
    """Ids of documents, a byte each, from tokenizer.json as it is: its bytes are in the order of
    the characters that stand for them."""
    vocabulary = read_json(path / "tokenizer.json")["model"]["vocab"]
    assert len(vocabulary) == SPECIAL + 256
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    table = {byte: vocabulary[chr(byte)] for byte in printable}
    table |= {byte: vocabulary[chr(256 + n)] for n, byte in enumerate(rest)}

    def ids(*texts):
        return np.array([i for text in texts for i in [*map(table.get, text.encode()), END]])

    return ids


def loss_by_hand(model, ids):
    """Mean of -log p(id) over all ids but the first, each given those before it in its block."""
    losses = []
    for start in range(0, len(ids) - 1, CONTEXT):
        block = ids[start : start + CONTEXT + 1]
        logits = np.asarray(model({"token_ids": block[None, :-1]}, training=False))[0]
        logits = logits.astype("float64")
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        losses += (-logits[np.arange(len(block) - 1), block[1:]]).tolist()
    assert len(losses) == len(ids) - 1
    return float(np.mean(losses))


# What a run leaves behind


def test_the_folders_hold_what_they_should(finished):
    folder, _ = finished
    assert sorted(os.listdir(folder)) == ["runs", "saved_models", "texts"]
    assert sorted(os.listdir(folder / "runs" / "mine")) == [
        "cost.json",
        "data.json",
        "evaluation.json",
        "exports.json",
        "files.json",
        "loss.png",
        "metrics.csv",
        "previews.csv",
        "report.html",
        "result.json",
        "run.json",
        "samples.csv",
        "settings.json",
        "tensorboard",
        "training.bin",
    ]
    assert sorted(os.listdir(folder / "saved_models" / "mine")) == [
        "README.md",
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
        "model.tflite",
        "run.pyz",
        "saved_model",
        "tokenizer.json",
    ]
    settings = read_json(folder / "runs" / "mine" / "settings.json")
    assert SETTINGS.items() <= settings.items()


def test_the_report(finished, path):
    folder, result = finished
    scores = {"bits per byte (lower is better)": f"{result['scores']['bits_per_byte']:.3f}"}
    page = report_of(folder / "runs" / "mine", path, scores)
    assert "The model's continuations of held-out texts." in page.text()


def test_the_model_is_a_plain_decoder(path):
    config = bundle.read_config(path)
    assert (config["task"], config["chat"]) == ("causal", False)
    llama = {"position": "rotary", "norm": "rms_norm", "max_sequence_length": CONTEXT}
    assert llama.items() <= config["architecture"].items()
    assert bundle.read_tokenizer(path).chat_template is None
    assert "jinja" not in (path / "README.md").read_text("utf-8")


def test_data_is_what_was_read(finished, ids_of):
    folder, result = finished
    texts = [(folder / "texts" / name).read_text("utf-8") for name in ("a.txt", "more/b.md")]
    ids = ids_of(*texts)
    np.testing.assert_array_equal(np.fromfile(folder / "runs/mine/training.bin", "uint16"), ids)
    training, validation = read_json(folder / "runs" / "mine" / "data.json")
    assert training["tokens"] + validation["tokens"] == len(ids)
    assert training["bytes"] + validation["bytes"] == len("".join(texts).encode())
    assert validation["tokens"] == round(0.2 * len(ids)) and training["files"] == 2
    assert result["data"] == {"file": "a.txt"}
    cost = read_json(folder / "runs" / "mine" / "cost.json")
    assert cost["trained"] == bundle.read_config(folder / "saved_models/mine")["parameters"]


def test_the_scores_are_those_of_the_bundle(finished, by_keras):
    folder, result = finished
    metrics = pandas.read_csv(folder / "runs" / "mine" / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2]
    assert metrics["loss"][1] < metrics["loss"][0] < math.log(262), "it has learned nothing"
    ids = np.fromfile(folder / "runs" / "mine" / "training.bin", "uint16").astype("int32")
    held_out = ids[-round(0.2 * len(ids)) :]
    loss = loss_by_hand(by_keras.engine.model, held_out)
    # Keras weighs every batch by its rows, so tokens of a last, shorter block weigh more.
    assert result["training"]["val_loss"] == pytest.approx(loss, rel=0.02)
    bits = loss * len(held_out) / ((held_out >= SPECIAL).sum() * math.log(2))
    assert result["scores"] == {"bits_per_byte": pytest.approx(bits, abs=2e-4)}


def test_samples_are_what_the_bundle_writes(finished, by_litert):
    samples = pandas.read_csv(finished[0] / "runs/mine/samples.csv", keep_default_na=False)
    sources = samples["source"].tolist()
    assert len(sources) > 5 and all(0 < len(s.encode()) <= 16 for s in sources)
    assert by_litert.generate(sources) == samples["written"].tolist()
    previews = pandas.read_csv(finished[0] / "runs/mine/previews.csv", keep_default_na=False)
    assert previews["epoch"].tolist() == [1, 2]
    assert set(previews["source"]) == {sources[0]}


def test_the_result_is_told_three_times_alike(finished, path):
    folder, result = finished
    config = bundle.read_config(path)
    for key in ("training", "scores", "data", "verified"):
        assert config[key] == json.loads(json.dumps(result[key]))
    written = read_json(folder / "runs" / "mine" / "result.json")
    assert written == result["training"] | result["scores"] | {"conclusion": result["conclusion"]}
    bits = f"- bits per byte (lower is better): {result['scores']['bits_per_byte']:.3f}\n"
    assert bits in (path / "README.md").read_text("utf-8")


# The bundle


def test_every_export_continues_as_keras(finished, by_keras, by_litert, by_saved_model):
    verified = finished[1]["verified"]
    assert verified.keys() == {"SavedModel", "TFLite float32"}
    assert all(result["identical"] == result["of"] > 5 for result in verified.values())
    sentence = "In the village there lives a friendly cat called Koro, 猫のコロです。"
    texts = ["", "A", "</s>", "<|user|>", "🙂", "猫", *(sentence[n:] for n in range(9))]
    texts += [sentence[:n] for n in range(10, 40, 3)]
    expected = by_keras.generate(texts, truncate=True)
    assert len(set(expected)) > 5, "answers that are all alike would prove nothing"
    assert by_saved_model.generate(texts) == expected
    assert by_litert.generate(texts, truncate=True) == expected


def test_of_a_long_text_the_end_is_kept(by_keras, by_litert, by_saved_model, ids_of):
    text = "The sun comes up behind the mountains, and then they talk about the rain."
    texts = [text[:n] for n in range(CONTEXT + 1, len(text), 3)]
    kept = [text[1 - CONTEXT :] for text in texts]
    for generator in (by_keras, by_litert):
        assert generator.encode(text, truncate=True) == ids_of(text[1 - CONTEXT :])[:-1].tolist()
        answers = generator.generate(texts, truncate=True)
        assert answers == generator.generate(kept)
        assert len(set(answers)) > 3, "the beginning, which is always the same, would answer alike"
        with pytest.raises(InputError, match=f"prompt of {len(text)} tokens; the model reads 28"):
            generator.generate(text)
    assert by_saved_model.generate(texts) == answers


def test_an_empty_text_begins_a_document(by_keras):
    assert by_keras.encode("") == [END]
    written = by_keras.engine.model({"token_ids": np.array([[END]])}, training=False)
    first = int(np.argmax(np.asarray(written)[0, -1]))
    text = by_keras.generate("", max_new_tokens=1)
    assert text == by_keras.tokenizer.decode([first])


def test_run_pyz_continues_without_training_packages(path, by_litert, tmp_path):
    texts = ["The ", "", "みどり"]
    blocked = (*TRAINING, "jinja2")
    output = python(RUN_PYZ, path / "run.pyz", *texts, "--json", cwd=tmp_path, blocked=blocked)
    answers = [row["answer"] for row in json.loads(output)["answers"]]
    assert answers == by_litert.generate(texts)


# The command


@pytest.mark.slow(but=["two batches"])
@pytest.mark.parametrize("times", [1, 17], ids=["one batch", "two batches"])
def test_evaluate_by_hand(command, path, by_keras, ids_of, tmp_path, times):
    text = HELD_OUT * times
    (tmp_path / "new.txt").write_text(text, encoding="utf-8")
    status, output, errors = command("evaluate", path, "new.txt", "--json")
    assert status == 0, errors
    scores = json.loads(output)
    ids, size = ids_of(text), len(text.encode())
    loss = loss_by_hand(by_keras.engine.model, ids)
    assert (scores["tokens"], scores["bytes"]) == (len(ids), size)
    assert scores["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    bits = loss * len(ids) / (size * math.log(2))
    assert scores["bits_per_byte"] == pytest.approx(bits, abs=1e-4)
    assert scores["loss"] == pytest.approx(loss, abs=1e-4)
    assert errors.startswith(f"loss {scores['loss']:.4f} per token  perplexity ")
    assert f"{scores['bits_per_byte']:.4f} bits per byte of {size}\n" in errors


def test_evaluate_a_column(command, path, by_keras, ids_of, tmp_path):
    stories = ["The cat sleeps, and\nthe dog too.", "犬が走る。", 'It says "NA".', "001"]
    with (tmp_path / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "story"), *enumerate(stories)])
    flags = ["--column", "story", "--json"]
    status, output, errors = command("evaluate", path, "table.csv", *flags)
    assert status == 0, errors
    scores, ids = json.loads(output), ids_of(*stories)
    assert (scores["tokens"], scores["bytes"]) == (len(ids), len("".join(stories).encode()))
    loss = loss_by_hand(by_keras.engine.model, ids)
    assert scores["loss"] == pytest.approx(loss, abs=1e-4)


def test_generate_continues(command, path, by_keras):
    texts = ["The cat ", "猫", ""]
    expected = by_keras.generate(texts)
    status, output, errors = command("generate", path, *texts, "--json")
    assert (status, errors) == (0, "".join(f"{text}\n" for text in expected))
    assert [row["answer"] for row in json.loads(output)["answers"]] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat", "{}"], "this model has no chat template.\n  Chat needs one from: "),
        (["chat", "{}", "--engine=keras"], "this model has no chat template."),
        (["evaluate", "{}", "new.txt", "--engine=litert"], "Use --engine keras."),
        (["evaluate", "{}", "empty.txt"], "empty.txt: the file is empty."),
        (["evaluate", "{}", "no.txt"], "no.txt: there is no such file or folder."),
        (["evaluate", "{}", "table.csv"], "The columns there are: 'id', 'story'."),
        (["evaluate", "{}", "latin.txt"], "latin.txt, line 1: not UTF-8 text, from byte 3"),
        (["generate", "{}", "long " * 9], "makes a prompt of 45 tokens; the model reads 28."),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_arguments(command, path, tmp_path, arguments, message):
    (tmp_path / "new.txt").write_text(HELD_OUT, encoding="utf-8")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "table.csv").write_text("id,story\n1,once\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    status, output, errors = command(*(a.replace("{}", str(path)) for a in arguments))
    assert (status, output) == (2, "")
    assert message in errors and "fault of the program" not in errors


# Other ways to begin


def test_a_training_begins_with_its_base(recipe, finished, quick, path, by_keras, fitted):
    # Size, context and tokenizer are the base's.
    sums = (path / bundle.SUMS).read_bytes()
    other = {"base": "saved_models/mine", "name": "begun", "size": "tiny", "context": 99}
    begun, _ = fitted(recipe, **SETTINGS | other)
    assert begun.config == by_keras.engine.config
    before = parameters(by_keras.engine.model)
    for name, weight in parameters(begun).items():
        np.testing.assert_array_equal(weight, before[name], err_msg=name)
    runs = finished[0] / "runs"
    assert read_json(runs / "begun" / "data.json") == read_json(runs / "mine" / "data.json")
    assert (path / bundle.SUMS).read_bytes() == sums, "the base is read only"


@pytest.mark.slow  # the one above has its weights and sizes before the training
def test_base_continues(recipe, finished, quick, path, by_keras):
    # At a rate of almost nothing the model stays what it was; size and context are the base's.
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "steps": 1, "validate_every": 1}
    other = {"base": "saved_models/mine", "name": "again", "size": "tiny", "context": 99}
    sums = (path / bundle.SUMS).read_bytes()
    result = recipe(**SETTINGS | still | other)
    assert result["scores"]["bits_per_byte"] == pytest.approx(
        finished[1]["scores"]["bits_per_byte"], abs=2e-4
    )
    again, tokenizer = load("saved_models/again")
    assert again.config == by_keras.engine.config
    assert tokenizer.ranks == by_keras.tokenizer.ranks
    before = parameters(by_keras.engine.model)
    for name, weight in parameters(again).items():
        np.testing.assert_allclose(weight, before[name], atol=1e-6, err_msg=name)
    assert (path / bundle.SUMS).read_bytes() == sums, "the base is read only"


def test_a_column_and_another_models_tokenizer(recipe, finished, quick):
    folder, _ = finished
    chat = Tokenizer.train([HELD_OUT] * 3, 280, ROLE_TOKENS)
    chat.chat_template = CHAT_TEMPLATE
    (folder / "chat").mkdir(exist_ok=True)
    bundle.write_tokenizer(folder / "chat", chat)
    for name, rows in {
        "my.csv": [["1", HELD_OUT * 20], ["2", ""]],
        "held.csv": [["3", HELD_OUT]],
    }.items():
        with open(name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("id", "story"), *rows])
    columns = {"column": "story", "validation": "held.csv", "skip_bad_rows": True}
    result = recipe(
        **SETTINGS | columns | {"text": "my.csv", "tokenizer": "chat", "name": "column"}
        | {"steps": 1, "validate_every": 1, "style": "gpt2", "layers": 1, "heads": 1, "width": 12}
    )  # fmt: skip
    training, validation = read_json(folder / "runs" / "column" / "data.json")
    assert (training["documents"], validation["documents"]) == (1, 1)
    assert validation["tokens"] == chat.count(HELD_OUT) + 1 < len(HELD_OUT.encode())
    assert result["training"]["epochs"] == 1
    with (folder / "runs" / "column" / "bad_rows.csv").open(encoding="utf-8") as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["3"]
    model, tokenizer = load("saved_models/column")
    assert tokenizer.ranks == chat.ranks
    shape = {"num_layers": 1, "num_heads": 1, "hidden_dim": 12, "position": "learned"}
    assert shape.items() <= model.config.to_dict().items()
    # The tokenizer is that of a chat model; the model has read no chats.
    assert tokenizer.chat_template is None
    assert bundle.read_config("saved_models/column")["chat"] is False


# A corpus that was tokenized once


@pytest.fixture(scope="module")
def tokens(finished, path):
    """A folder of tokens of the texts that the recipe has read, relative to the working folder."""
    line = ["tokenize", "texts", "--tokenizer", path, "--out", "tokens"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished[0])
        patch.setattr("tfx_transformer.flags.hush", lambda: None)
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in line])
    assert ended.value.code == 0
    return "tokens"


def check_same_model(path, name):
    """Assert that a run has made the model of the fixture `finished`."""
    expected, model = (parameters(load(bundle)[0]) for bundle in (path, path.parent / name))
    for weight, value in expected.items():
        np.testing.assert_allclose(model[weight], value, atol=1e-5, err_msg=weight)


def test_tokens_train_the_model_of_their_text(recipe, finished, quick, path, tokens):
    result = recipe(**SETTINGS | {"text": "", "tokens": tokens, "name": "of_tokens"})
    check_same_model(path, "of_tokens")
    assert result["scores"] == pytest.approx(finished[1]["scores"], rel=1e-5)
    found, expected = (
        read_json(finished[0] / "runs" / name / "data.json") for name in ("of_tokens", "mine")
    )
    for one, other in zip(found, expected, strict=True):
        facts = ("tokens", "bytes", "documents")
        assert {name: one[name] for name in facts} == {name: other[name] for name in facts}


@pytest.mark.slow
def test_an_interrupted_run_of_tokens_ends_as_that_of_their_text(
    recipe, finished, quick, path, tokens, monkeypatch
):
    class Dies(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 13:
                raise KeyboardInterrupt

    def fit_until(model, batches, checks, epochs, callbacks, **options):
        return fit(model, batches, checks, epochs, [*callbacks, Dies()], **options)

    fit = training_run.fit
    settings = SETTINGS | {"text": "", "tokens": tokens, "name": "died", "save_minutes": 1e-4}
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "fit", fit_until)
        with pytest.raises(KeyboardInterrupt):
            recipe(**settings)
    kept = os.listdir(finished[0] / "runs" / "died" / "checkpoints")
    assert max(kept) > "step_0"
    # A folder that was written anew has another index.
    index = finished[0] / tokens / "tokens.json"
    content = index.read_text("utf-8")
    index.write_text(content + " ", "utf-8")
    with pytest.raises(InputError, match="tokens has changed"):
        recipe(**settings)
    index.write_text(content, "utf-8")
    recipe(**settings)
    check_same_model(path, "died")


# What is hidden in a text


@pytest.fixture(scope="module")
def masked(recipe, finished):
    """The path of a masked model that the recipe has made of the same texts, and its result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished[0])
        return finished[0] / "saved_models" / "masked", recipe(**MASKED)


def test_a_masked_model_is_a_base(finished, masked):
    path, result = masked
    assert result["verified"] == {}
    assert sorted(os.listdir(finished[0] / "runs" / "masked")) == [
        "cost.json",
        "data.json",
        "evaluation.json",
        "files.json",
        "loss.png",
        "metrics.csv",
        "report.html",
        "result.json",
        "run.json",
        "settings.json",
        "tensorboard",
        "training.bin",
    ]
    assert sorted(os.listdir(path)) == [
        "README.md",
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    config = bundle.read_config(path)
    assert (config["task"], config["chat"], "example" in config) == ("masked", False, False)
    special = bundle.read_tokenizer(path).special_tokens
    assert special == {"<pad>": 0, "<s>": 1, "</s>": 2, "<mask>": 3}
    with pytest.raises(InputError, match="a model of task 'masked' answers nothing"):
        runtime.load(path)


def test_a_masked_model_is_measured_by_what_it_guesses(finished, masked, tmp_path):
    path, result = masked
    metrics = pandas.read_csv(finished[0] / "runs" / "masked" / "metrics.csv")
    measured = {"loss", "token_accuracy", "perplexity"}
    assert set(metrics) == {"epoch", *measured, *(f"val_{name}" for name in measured)}
    assert metrics["loss"][1] < metrics["loss"][0] < math.log(300), "it has learned nothing"
    model, tokenizer = load(path)
    _, held_out = read_corpus([finished[0] / "texts"], tokenizer, tmp_path, share=0.2)
    batches = masked_batches(held_out, tokenizer, length=CONTEXT, batch_size=5, shuffle=False)
    losses, hits = [], []
    for inputs, labels, weights in batches.as_numpy_iterator():
        logits = np.asarray(model(inputs, training=False)).astype("float64")
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        right = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
        losses += (-right[weights == 1]).tolist()
        hits += (logits.argmax(-1) == labels)[weights == 1].tolist()
    assert result["scores"] == {"perplexity": pytest.approx(math.exp(np.mean(losses)), rel=1e-3)}
    best = metrics.loc[metrics["val_loss"].idxmin()]
    assert best["val_token_accuracy"] == pytest.approx(np.mean(hits), abs=1e-5)


def test_a_masked_base_continues(recipe, masked, quick, fitted):
    # The training begins with the weights of the base; sizes are the base's.
    other = {"base": "saved_models/masked", "name": "masked_again", "size": "tiny", "context": 99}
    after, _ = fitted(recipe, **MASKED | other)
    before = load(masked[0])[0]
    assert after.config == before.config
    for name, weight in parameters(after).items():
        np.testing.assert_array_equal(weight, parameters(before)[name], err_msg=name)


@pytest.mark.parametrize(
    ("base", "objective", "task"), [("mine", "masked", "causal"), ("masked", "causal", "masked")]
)
def test_a_base_has_the_same_objective(recipe, masked, quick, base, objective, task):
    settings = {"base": f"saved_models/{base}", "objective": objective, "name": "none"}
    with pytest.raises(InputError, match=f"its task is '{task}'.\n.* of task '{objective}'"):
        recipe(**MASKED | settings)


# What cannot be trained


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """A bundle of another task."""
    path = tmp_path_factory.mktemp("other") / "translator"
    save(path, Seq2SeqLM(TransformerConfig.of_size("nano", 259)), Tokenizer.train([], 259))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patience=0"], "patience is 0 and minutes is 0.0."),
        (["--minutes=-0.5"], "minutes is -0.5.\n  Expected at least 1 epoch"),
        (["--minutes=nan"], "minutes is nan."),
        (["--steps=0"], "steps is 0 and validate_every is "),
        (["--learning-rate=0"], "learning_rate is 0.0"),
        (["--share=1.5"], "the share to hold out is 1.5."),
        (["--context=0"], "max_sequence_length is 0."),
        (["--context=9999"], "too few for blocks of length 9,999."),
        (["--vocabulary-size=261"], "vocabulary_size 261 is too small"),
        (["--heads=3"], "hidden_dim 64 is not a multiple of num_heads 3"),
        (["--style=bort"], "argument --style: invalid choice: 'bort'"),
        (["--tokenizer=nowhere"], "nowhere/tokenizer.json: cannot be read as a tokenizer"),
        (["--base=nowhere"], "nowhere is not a bundle"),
        (["--base={}"], "its task is 'seq2seq'."),
        (["--objective=bert"], "argument --objective: invalid choice: 'bert'"),
        (["--ngram-buckets=7"], "ngram_buckets is 7 for a model that writes text."),
        (["--objective=masked", "--base={}"], "Expected a bundle of task 'masked'."),
        (["--objective=masked", "--tokenizer={}"], "the tokenizer has no token <mask>"),
        (["--text=nowhere.txt"], "nowhere.txt: there is no such file or folder."),
        (["--text=table.csv"], "which column holds the text?"),
        (["--text=table.csv", "--column=stori"], "The columns there are: 'id', 'story'."),
        (["--validation=nowhere.txt"], "nowhere.txt: there is no such file or folder."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_refused(
    command, translator, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trains"))
    (tmp_path / "text.txt").write_text(HELD_OUT * 20, encoding="utf-8")
    (tmp_path / "table.csv").write_text("id,story\n1,once\n")
    small = ("--text=text.txt", "--vocabulary-size=262", "--size=nano", "--context=19")
    given = [argument.replace("{}", str(translator)) for argument in arguments]
    status, _, errors = command("run", "pretraining", *small, *given)
    assert status == 2, errors
    assert message in errors and "fault of the program" not in errors
    assert not (tmp_path / "saved_models").exists()


# Names of special tokens in a text are text

NAMES = ["</s>", "<s>", "<pad>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"]
hostile = (
    st.lists(st.sampled_from([*NAMES, "<|", "|>", "</", "s>", " ", "\n", "a", "猫", '"', ","]))
    .map("".join)
    .filter(str.strip)
)


@pytest.fixture(scope="module")
def tempting():
    """A tokenizer that has met the names as text, and has them as special tokens."""
    return Tokenizer.train([" ".join(NAMES)] * 9, 330, [*ROLE_TOKENS, "<|endoftext|>"])


@given(st.lists(hostile, min_size=1, max_size=3), st.lists(hostile, min_size=1, max_size=3))
@settings(max_examples=12)
def test_no_text_becomes_a_special_token(tmp_path_factory, tempting, files, rows):
    folder = tmp_path_factory.mktemp("hostile")
    for number, text in enumerate(files):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8", newline="")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[n, text] for n, text in [("id", "text"), *enumerate(rows)]])
    paths, column = ([folder, folder / "rows.csv"], {"column": "text"})
    training, validation = read_corpus(paths, tempting, folder, **column, validation=paths)
    special = [*tempting.special_tokens.values()]
    for part in (training, validation):
        ids = part.array()
        ends = np.flatnonzero(np.isin(ids, special))
        assert (ids[ends] == END).all()
        documents = np.split(ids, ends + 1)[:-1]
        assert [tempting.decode(document) for document in documents] == files + rows
    labels = [
        labels[weights == 1]
        for _, labels, weights in blocks(
            validation, length=7, batch_size=2, shuffle=False
        ).as_numpy_iterator()
    ]
    np.testing.assert_array_equal(np.concatenate(labels), ids[1:])


def test_the_bundle_holds_no_row_and_no_path(finished):
    files = sorted((finished[0] / "texts").rglob("*.*"))
    rows = [line for file in files for line in file.read_text("utf-8").splitlines()]
    assert not leaks(finished[0] / "saved_models" / "mine", rows, finished[0])
