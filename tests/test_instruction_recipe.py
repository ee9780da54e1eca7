"""The recipe `instruction_finetuning` from a table or chats to a bundle that answers."""

import csv
import itertools
import json
import os

import keras
import numpy as np
import pandas
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from leaks import leaks
from pages import report_of

from tfx_transformer import bundle, cli, export, pictures, resources
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data import instructions, read_instructions, split_conversations
from tfx_transformer.evaluation import score_answers
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.lora import load_adapters, settings_of
from tfx_transformer.models.saving import load, save
from tfx_transformer.models.tasks import CausalLM, Seq2SeqLM
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import Run
from tfx_transformer.training import run as training_run

EVERYTHING = export.everything  # other tests make no exports
PAD, END, SYSTEM, USER, ASSISTANT = 0, 2, 3, 4, 5
COLUMNS = {"instruction": "question", "input": "context", "output": "answer"}
SETTINGS = {
    "csv": "my.csv",
    **COLUMNS,
    "share": 0.2,
    "skip_bad_rows": True,
    "name": "mine",
    "size": "nano",
    "vocabulary_size": 300,
    "max_length": 83,
    "turns": 2,
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "warmup_steps": 1,
}
# Before the last question, which is short, stands more than 83 tokens.
LONG = [("user", "Where is the station, and where is the park?"), ("assistant", "Here.")] * 9


@pytest.fixture(scope="module")
def recipe():
    return cli.recipe_main("instruction_finetuning")


@pytest.fixture(scope="module")
def read():
    whole = read_instructions(resources.dataset_path("instructions.csv"))
    return whole.take(range(0, len(whole), 37))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, read):
    """A table with a bad row, the same as chats, and a pre-trained model without a template."""
    folder = tmp_path_factory.mktemp("work")
    with (folder / "my.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [
            *((m[0]["content"], "", m[1]["content"]) for m in read.messages),
            ("no answer", "", ""),
        ]
        csv.writer(file).writerows([("question", "context", "answer"), *rows])
    # A conversation of two turns each; the held-out ones begin with one that is far too long.
    chats = [a + b for a, b in itertools.pairwise(read.messages)]
    long = [{"role": role, "content": content} for role, content in LONG]
    for name, part in {"chats": chats[:24], "held_out": [long, *chats[24:30]]}.items():
        lines = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    tokenizer = Tokenizer.train(read.texts(), 300, ROLE_TOKENS)
    keras.utils.set_random_seed(1)
    config = TransformerConfig.of_size("nano", 300, "llama", max_sequence_length=83)
    save(folder / "base", CausalLM(config), tokenizer)
    return folder


@pytest.fixture(scope="module")
def finished(recipe, folder):
    """What the recipe returned, what it exported, and where it drew the limit of lengths."""
    told = {}

    def everything(path, texts, generator, int4, written):
        told["export"] = (path, texts)
        return {}

    def length_histogram(path, lengths, limit=None, **options):
        told["limit"] = limit
        return draw(path, lengths, limit, **options)

    draw = pictures.length_histogram
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfx_transformer.export.everything", everything)
        patch.setattr(pictures, "length_histogram", length_histogram)
        patch.chdir(folder)
        return recipe(**SETTINGS), told


@pytest.fixture
def quick(folder, bare, monkeypatch):
    """In that folder, without exports and pictures."""
    monkeypatch.chdir(folder)


def read_json(path):
    return json.loads(path.read_text("utf-8"))


# A new model


def test_the_folders_hold_what_they_should(folder, finished):
    assert sorted(os.listdir(folder / "runs" / "mine")) == [
        "bad_rows.csv",
        "cost.json",
        "data.json",
        "evaluation.json",
        "exports.json",
        "files.json",
        "lengths.png",
        "loss.png",
        "metrics.csv",
        "previews.csv",
        "report.html",
        "result.json",
        "run.json",
        "samples.csv",
        "settings.json",
        "tensorboard",
    ]
    assert sorted(os.listdir(folder / "saved_models" / "mine")) == [
        "README.md",
        "SHA256SUMS",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "split.json",
        "tokenizer.json",
    ]
    settings = read_json(folder / "runs" / "mine" / "settings.json")
    assert SETTINGS.items() <= settings.items()


def test_the_report(folder, finished):
    found = finished[0]["scores"]
    scores = {"token F1": f"{found['token_f1']:.3f}", "chrF": f"{found['chrf']:.1f}"}
    page = report_of(folder / "runs" / "mine", folder / "saved_models" / "mine", scores)
    samples = pandas.read_csv(folder / "runs" / "mine" / "samples.csv", keep_default_na=False)
    assert all(text in page.text() for text in samples["reference"][:12])


def test_data_is_what_was_read(folder, finished, read):
    training, validation = read_json(folder / "runs" / "mine" / "data.json")
    held_out = round(0.2 * len(read))
    kept = len(read) - held_out
    assert training["rows"] == kept + -(-kept // 2), "all of them, and once more in pairs"
    assert (validation["rows"], validation["overlap"]) == (held_out, 0)
    assert training["columns"] == COLUMNS and training["bad_rows"] == 1
    with (folder / "runs" / "mine" / "bad_rows.csv").open(encoding="utf-8") as file:
        (bad,) = csv.DictReader(file)
    assert (bad["row"], bad["column"]) == (str(len(read) + 2), "answer")


def test_the_model_reads_and_answers_chats(folder, finished):
    model, tokenizer = load(folder / "saved_models" / "mine")
    assert bundle.read_config(folder / "saved_models" / "mine")["chat"] is True
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert (model.config.position, model.config.max_sequence_length) == ("rotary", 83)
    assert list(tokenizer.special_tokens.values()) == list(range(6))


def test_it_has_learned_and_told_so(folder, finished):
    metrics = pandas.read_csv(folder / "runs" / "mine" / "metrics.csv")
    assert metrics["epoch"].tolist() == [1, 2]
    assert metrics["loss"][1] < metrics["loss"][0]
    result, _ = finished
    best = metrics.loc[metrics["val_loss"].idxmin()]
    assert result["training"]["val_loss"] == pytest.approx(best["val_loss"], abs=1e-4)
    assert result["scores"]["perplexity"] == pytest.approx(best["val_perplexity"], abs=1e-4)
    config = bundle.read_config(folder / "saved_models" / "mine")
    for key in ("training", "scores", "data"):
        assert config[key] == json.loads(json.dumps(result[key]))
    written = read_json(folder / "runs" / "mine" / "result.json")
    assert written == result["training"] | result["scores"] | {"conclusion": result["conclusion"]}


def test_samples_are_what_the_bundle_answers(folder, finished):
    result, told = finished
    samples = pandas.read_csv(folder / "runs" / "mine" / "samples.csv", keep_default_na=False)
    read = read_instructions(folder / "my.csv", *COLUMNS.values(), skip_bad_rows=True)
    _, held_out = split_conversations(read, 0.2, seed=1)
    assert samples["source"].tolist() == held_out.first_prompts()
    assert samples["reference"].tolist() == held_out.answers()
    written = samples["written"].tolist()
    generator = text_generator(*load(folder / "saved_models" / "mine"))
    assert generator.generate(held_out.prompts(), truncate=True) == written
    assert score_answers(written, held_out.answers()).items() <= result["scores"].items()
    path, texts = told["export"]
    assert os.fspath(path) == os.path.join("saved_models", "mine")
    assert texts == held_out.first_prompts()


def test_the_picture_of_lengths_shows_the_models_limit(finished):
    # A conversation of as many tokens is not cut.
    assert finished[1]["limit"] == SETTINGS["max_length"]


# A model that is there


def logits_of(model):
    ids = np.random.default_rng(0).integers(3, 300, (3, 41)).astype("int32")
    return np.asarray(model({"token_ids": ids}, training=False))


@pytest.mark.slow(but=["lora-source0"])
@pytest.mark.parametrize(
    ("method", "source"),
    [
        ("lora", {"csv": "my.csv", "base_dtype": ""}),
        ("dora", {"csv": "chats.jsonl", "validation": "held_out.jsonl", "system": "Be kind."}),
    ],
)
def test_adapters_alone_are_trained(recipe, folder, quick, method, source):
    sums = (folder / "base" / bundle.SUMS).read_bytes()
    targets = {"query", "gate"}
    adapters = {"method": method, "rank": 3, "alpha": 6.0, "targets": ",".join(targets)}
    other = {"name": method, "base": "base", "max_length": 999, "pack": False, "epochs": 1}
    if source["csv"] == "chats.jsonl":
        other |= {"instruction": "instruction", "input": "input", "output": "output"}
    result = recipe(**SETTINGS | source | adapters | other)
    assert result["training"]["epochs"] == 1
    assert (folder / "base" / bundle.SUMS).read_bytes() == sums, "the base is read only"

    # Beside the adapters nothing has changed; merged they are in the kernels that had one.
    before = safetensors.numpy.load_file(folder / "base" / bundle.WEIGHTS)
    after = safetensors.numpy.load_file(folder / "saved_models" / method / bundle.WEIGHTS)
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {name.split("/")[-2] for name in changed} == targets
    assert len(changed) == 2 and all(name.endswith("/kernel") for name in changed)
    if method == "lora":
        for name in changed:
            values = np.linalg.svd(after[name] - before[name], compute_uv=False)
            assert values[2] > 1e-4 > values[3], "a change of rank 3"

    # The file of adapters makes of the base what the bundle is.
    model, tokenizer = load(folder / "base")
    base_logits = logits_of(model)
    load_adapters(folder / "runs" / method / "adapters.safetensors", model)
    merged, chat_tokenizer = load(folder / "saved_models" / method)
    np.testing.assert_allclose(logits_of(model), logits_of(merged), atol=1e-4)
    assert np.abs(logits_of(merged) - base_logits).max() > 0.01
    assert (tokenizer.chat_template, chat_tokenizer.chat_template) == (None, CHAT_TEMPLATE)
    trained = sum(w.size for name, w in safetensors.numpy.load_file(
        folder / "runs" / method / "adapters.safetensors").items())  # fmt: skip
    cost = read_json(folder / "runs" / method / "cost.json")
    assert (cost["trained"], cost["frozen"]) == (trained, sum(w.size for w in before.values()))


@pytest.mark.slow
def test_a_base_in_4_bits(recipe, folder, monkeypatch):
    monkeypatch.chdir(folder)
    trained, merge, fit = {}, Run.without_adapters, training_run.fit

    def without_adapters(run, model):
        trained[run.folder.name] = model
        return merge(run, model)

    class Dies(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                raise KeyboardInterrupt

    def fit_until(model, batches, checks, epochs, callbacks, **options):
        return fit(model, batches, checks, epochs, [*callbacks, Dies()], **options)

    options = SETTINGS | {"csv": "my.csv", "base": "base", "max_length": 83, "pack": False}
    options |= {"method": "dora", "rank": 3, "base_dtype": "nf4", "epochs": 1, "save_minutes": 1e-4}
    monkeypatch.setattr(Run, "without_adapters", without_adapters)
    with monkeypatch.context() as patch:
        patch.setattr("tfx_transformer.export.everything", lambda *_, **__: {})
        recipe(**options | {"name": "straight"})
        patch.setattr(training_run, "fit", fit_until)
        with pytest.raises(KeyboardInterrupt):
            recipe(**options | {"name": "four_bits"})
    kept = os.listdir(folder / "runs" / "four_bits" / "checkpoints")
    assert max(kept) > "step_0", "it goes on within the epoch"
    monkeypatch.setattr("tfx_transformer.export.everything", EVERYTHING)
    result = recipe(**options | {"name": "four_bits"})

    straight, model = trained["straight"], trained["four_bits"]
    assert settings_of(model)["base_dtype"] == "nf4"
    stored = {w.path: keras.ops.convert_to_numpy(w) for w in model.weights}
    for weight in straight.weights:
        np.testing.assert_array_equal(weight, stored[weight.path], err_msg=weight.path)
    # The bundle answers as the adapters on their base do, and the export as the bundle.
    bundle_path = folder / "saved_models" / "four_bits"
    merged, _ = load(bundle_path)
    np.testing.assert_allclose(logits_of(merged), logits_of(model), atol=1e-4)
    assert np.abs(logits_of(merged) - logits_of(load(folder / "base")[0])).max() > 0.01
    exact = result["verified"]["TFLite float32"]
    assert exact["identical"] == exact["of"] > 0


# What cannot be done


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
        (["--minutes=-1"], "minutes is -1.0.\n  Expected at least 1 epoch"),
        (["--method=qlora"], "argument --method: invalid choice: 'qlora'"),
        (["--method=lora", "--rank=0"], "rank is 0."),
        (["--method=dora", "--targets=querry"], "there is no layer 'querry'.\n  Targets of this"),
        (["--method=lora", "--base-dtype=int2"], "argument --base-dtype: invalid choice: 'int2'"),
        (["--base-dtype=nf4"], "--base-dtype is nf4, but --method full trains all weights."),
        (["--loss-on=questions"], "argument --loss-on: invalid choice: 'questions'"),
        (["--max-length=3"], "no answer begins in 3 tokens"),
        (["--output=reply"], "there is no column 'reply'"),
        (["--csv=my.txt"], "instructions are read from tables, .jsonl and .json files"),
        (["--base=nowhere"], "nowhere is not a bundle"),
        (["--base={}"], "its task is 'seq2seq'."),
        (["--name=a/b"], "--name 'a/b' cannot be a folder's name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_refused(
    command, folder, translator, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it trains"))
    (tmp_path / "my.csv").write_bytes((folder / "my.csv").read_bytes())
    small = ["--csv=my.csv", "--vocabulary-size=300", "--size=nano", "--skip-bad-rows"]
    small += [f"--{name}={column}" for name, column in COLUMNS.items()]
    given = [argument.replace("{}", str(translator)) for argument in arguments]
    status, _, errors = command("run", "instruction_finetuning", *small, *given)
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


def segments(batch):
    """Ids and labels of each example of a batch."""
    inputs, labels, _ = batch
    for ids, numbers, row in zip(inputs["token_ids"], inputs["segment_ids"], labels, strict=True):
        for number in range(1, numbers.max() + 1):
            yield ids[numbers == number].tolist(), row[numbers == number].tolist()


@given(
    st.lists(st.tuples(hostile, hostile | st.just(""), hostile), min_size=1, max_size=4), hostile
)
@settings(max_examples=12)
def test_no_text_becomes_a_special_token(tmp_path_factory, tempting, rows, system):
    path = tmp_path_factory.mktemp("hostile") / "my.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("instruction", "input", "output"), *rows])
    read = read_instructions(path, system=system)
    template = ChatTemplate(CHAT_TEMPLATE, tempting)
    # One batch that holds them all.
    (batch,) = instructions(read, template, max_length=4000).as_numpy_iterator()
    special, found = [*tempting.special_tokens.values()], []
    for ids, labels in segments(batch):
        assert labels[:-1] == ids[1:] and labels[-1] == END
        places = np.flatnonzero(np.isin(ids, special))
        assert [ids[i] for i in places] == [SYSTEM, END, USER, END, ASSISTANT]
        texts = np.split(ids, places)[1:]
        found.append([tempting.decode(text) for text in texts])
    said = [
        (f"{question}\n\n{given}" if given else question, answer)
        for question, given, answer in rows
    ]
    assert sorted(found) == sorted([system, "", q, "", a] for q, a in said)
    inputs, labels, weights = batch
    nowhere = inputs["segment_ids"] == 0
    assert not inputs["token_ids"][nowhere].any() and not weights[nowhere].any()
    assert PAD not in inputs["token_ids"][~nowhere]


def test_the_bundle_holds_no_row_and_no_path(folder, finished):
    with open(folder / SETTINGS["csv"], encoding="utf-8") as file:
        rows = [cell for row in csv.reader(file) for cell in row]
    assert not leaks(folder / "saved_models" / "mine", rows, folder)
