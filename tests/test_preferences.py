"""Preferences: losses compared with TRL's, batches with numbers by hand, and the recipe."""

import inspect
import json
import os
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest
import safetensors.numpy
from on_jax import needs_jax, run_on_jax

from tfx_transformer import bundle, cli, resources, runtime, training
from tfx_transformer.config import TransformerConfig
from tfx_transformer.data import (
    Conversations,
    describe_preferences,
    encode_rehearsed,
    fitting_preferences,
    preferences,
    read_preferences,
    read_rehearsed,
    split_preferences,
)
from tfx_transformer.data.preference_pairs import encode_preferences
from tfx_transformer.data.tables import BadRow
from tfx_transformer.errors import InputError
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.preference_losses import (
    DPOLoss,
    ORPOLoss,
    PreferredShare,
    RehearsedLoss,
)
from tfx_transformer.models.saving import load, save
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.models.token_scores import score
from tfx_transformer.text.prompts import CHAT_TEMPLATE, ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.finite import Places, cause
from tfx_transformer.training.identity import Identity

# Two pairs of answers, 7 ids; computed by the functions `get_batch_logps`, `dpo_loss` and
# `odds_ratio_loss` of TRL 0.21 in PyTorch, with beta 0.3. For ORPO the mean -log p of each chosen
# answer is added.
LOGITS = (3 * np.sin(1.7 * np.arange(140) ** 1.1)).reshape(4, 5, 7).astype("float32")
LABELS = np.array(
    [[-1, -1, 3, 6, 1], [-1, -1, 2, 0, -1], [-1, 5, 5, -1, -1], [-1, 0, 4, 2, 6]], "int32"
)
TARGETS = np.array([[-5.0, 3], [-7.5, 2], [-3.25, 2], [-9.0, 4]], "float32")
BY_TRL = {
    DPOLoss: (
        [0.81424934, 0.60250467],
        [0.00059984, 0.03129205, 0.00011292, -0.07023199, 0.00199517, 0.00036172, 0.03587029],
        [-0.00014187, -0.02954124, -0.00018504, -0.02192005, -0.00025635, -0.01546985, 0.06751440],
        1.49345398,
    ),
    ORPOLoss: (
        [2.21130967, 5.12903309],
        [0.00124227, 0.06480633, 0.00023386, -0.14545156, 0.00413204, 0.00074913, 0.07428793],
        [-0.00005515, -0.01148289, -0.00007193, -0.00852048, -0.00009964, -0.00601324, 0.02624333],
        2.23785806,
    ),
}
ROWS = [
    ("Is it hot?", "Yes.", "No!"),
    ("Name a pet.", "A dog.", "Dog"),
    ("はいと言って。", "はい。", "いやだ。"),
    ("Say hi.", "Hi there, and good morning to you, my friend.", "Hi"),
    ("Is it cold?", "No.", "Yes!"),
    ("Count to two.", "One, two.", "1 2 3"),
]


@pytest.fixture(scope="module")
def template():
    texts = [text for row in ROWS for text in row]
    return ChatTemplate.of(Tokenizer.train(texts, 290, ROLE_TOKENS))


@pytest.fixture(scope="module")
def scores_of():
    """A function (logits) -> log p of the labels, as a model with these logits computes it."""
    model = CausalLM(TransformerConfig.of_size("nano", 7, max_sequence_length=5))

    def scores(logits):
        model.decode = lambda *_, targets, **__: score(targets, logits)
        return model.call({"token_ids": np.zeros((4, 5), "int32"), "labels": LABELS})

    return scores


@pytest.mark.parametrize("loss", BY_TRL)
def test_losses_and_gradients_are_those_of_trl(scores_of, loss):
    import tensorflow as tf

    each, first, last, total = BY_TRL[loss]
    with tf.GradientTape() as tape:
        tape.watch(logits := tf.constant(LOGITS))
        found = loss(0.3, reduction=None)(TARGETS, scores_of(logits))
        mean = tf.reduce_mean(found)
    assert np.asarray(found) == pytest.approx(each, rel=1e-5)
    gradient = tape.gradient(mean, logits).numpy()
    assert gradient[0, 2] == pytest.approx(first, abs=1e-6)
    assert gradient[3, 4] == pytest.approx(last, abs=1e-6)
    assert np.abs(gradient).sum() == pytest.approx(total, rel=1e-5)
    assert float(loss(0.3)(TARGETS, scores_of(LOGITS))) == pytest.approx(np.mean(each), rel=1e-5)


def test_the_share_counts_chosen_answers_that_are_likelier():
    metric = PreferredShare()
    metric.update_state(TARGETS, np.array([-1.0, -2.0, -4.0, -3.0]))
    metric.update_state(TARGETS, np.array([-1.0, -1.0, -2.0, -3.0]))
    assert float(metric.result()) == 0.5, "an answer is not likelier than itself"


def test_learning_to_write_the_chosen_answers_as_well(scores_of):
    """Pang et al. (2024), equation 1: the DPO loss by TRL, and -log p of a chosen token."""
    dpo, orpo = (BY_TRL[loss][0] for loss in (DPOLoss, ORPOLoss))
    scores = np.asarray(scores_of(LOGITS))
    chosen = -scores[::2] / TARGETS[::2, 1]
    found = DPOLoss(0.3, sft_weight=0.7, reduction=None)(TARGETS, scores)
    assert np.asarray(found) == pytest.approx(dpo + 0.7 * chosen, rel=1e-5)
    assert (orpo > chosen).all()
    again = DPOLoss.from_config(DPOLoss(0.3, sft_weight=0.7).get_config())
    assert (again.beta, again.sft_weight) == (0.3, 0.7)
    with pytest.raises(InputError, match="sft_weight is -1"):
        DPOLoss(sft_weight=-1)


@pytest.mark.parametrize("loss", BY_TRL)
def test_rehearsed_answers_beside_the_pairs(scores_of, loss):
    each = BY_TRL[loss][0]
    scores = np.asarray(scores_of(LOGITS))
    # Two answers of 2 and 5 tokens after each pair: -log p of a token is 1.5 and 4, 1 and 0.2.
    more = np.array([[-3.0, -20.0], [-2.0, -1.0]])
    counts = np.array([[0.0, 2], [0.0, 5]])
    targets = np.concatenate([TARGETS.reshape(2, 2, 2), [counts, counts]], 1).reshape(8, 2)
    rows = np.concatenate([scores.reshape(2, 2), more], 1).reshape(8)
    inner = loss(0.3)
    found = RehearsedLoss(inner, 0.6, reduction=None)(targets, rows)
    expected = np.array(each) + 0.6 * np.array([(1.5 + 4) / 2, (1 + 0.2) / 2])
    assert np.asarray(found) == pytest.approx(expected, rel=1e-5)
    again = RehearsedLoss.from_config(RehearsedLoss(inner, 0.6).get_config())
    assert float(again(targets, rows)) == pytest.approx(expected.mean(), rel=1e-5)
    metric = PreferredShare(rows=4)
    metric.update_state(targets, rows)
    assert float(metric.result()) == np.mean(scores[0::2] > scores[1::2])
    with pytest.raises(InputError, match="weight of rehearsed rows is nan"):
        RehearsedLoss(inner, float("nan"))


def test_an_impossible_answer_has_a_finite_loss():
    sure = np.array([0.0, -1e4], "float32")
    for loss in (DPOLoss(), ORPOLoss()):
        for scores in (sure, sure[::-1]):
            assert np.isfinite(float(loss(TARGETS[:2], scores)))


@pytest.mark.parametrize("loss", BY_TRL)
def test_beta_is_above_zero(loss):
    for beta in (0, -1.0, float("nan")):
        with pytest.raises(InputError, match="Expected more than 0"):
            loss(beta)


# Data


def test_labels_of_a_batch_are_the_answers(template):
    examples = read_preferences(ROWS[:3])
    reference = np.arange(6).reshape(3, 2) / 4
    options = {"batch_size": 3, "max_length": 64, "shuffle": False}
    ((inputs, targets),) = preferences(examples, template, reference, **options).as_numpy_iterator()
    tokenizer = template.tokenizer
    assert inputs["token_ids"].shape == inputs["labels"].shape
    for row in range(6):
        labels, ids = inputs["labels"][row], inputs["token_ids"][row]
        prompt, answer = ROWS[row // 2][0], ROWS[row // 2][1 + row % 2]
        counted = labels[labels >= 0].tolist()
        assert tokenizer.decode(counted[:-1]) == answer and counted[-1] == tokenizer.end_id
        begin = int(np.flatnonzero(labels >= 0)[0])
        assert ids[: begin + 1].tolist() == template.prompt([{"role": "user", "content": prompt}])
        assert ids[begin + 1 : begin + len(counted)].tolist() == counted[:-1], "one step ahead"
        assert targets[row].tolist() == [row / 4, len(counted)]


def test_rehearsed_answers_are_drawn_anew(template):
    examples = read_preferences(ROWS)
    chats = [[{"role": "user", "content": p}, {"role": "assistant", "content": c}]
             for p, c in zip("abcdefghijk", "ABCDEFGHIJK", strict=True)]  # fmt: skip
    chats[0] = [*chats[0], *chats[1]]
    rehearsed = encode_rehearsed(Conversations(chats, list(range(11))), template, 64)
    tokenizer, options = template.tokenizer, {"batch_size": 3, "max_length": 64, "seed": 5}
    assert tokenizer.decode(rehearsed[0].ids) == "aAbB" and rehearsed[0].count == 2
    batches = preferences(examples, template, rehearsed=rehearsed, **options)
    seen = []
    for _ in range(4):
        epoch = []
        for inputs, targets in batches.as_numpy_iterator():
            assert inputs["token_ids"].shape == inputs["labels"].shape and len(targets) == 12
            for row in range(12):
                labels = inputs["labels"][row]
                text = tokenizer.decode(labels[labels >= 0].tolist())
                if row % 4 < 2:  # the pairs, as without rehearsal
                    assert text in {answer for _, *answers in ROWS for answer in answers}
                else:
                    assert text in "ABCDEFGHIJK" and targets[row].tolist() == [0, 2]
                    epoch.append(text)
        seen.append("".join(sorted(epoch)))
    assert len(set(seen)) == 4, "each epoch has others"
    again = preferences(examples, template, rehearsed=rehearsed, **options)
    for one, other in zip(batches.from_step(3), again.from_step(3), strict=True):
        np.testing.assert_array_equal(one[0]["labels"], other[0]["labels"])
        break
    checks = preferences(examples, template, rehearsed=rehearsed, shuffle=False, **options)
    first, second = ([x["labels"] for x, _ in checks.as_numpy_iterator()] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="no row fits into 3 tokens"):
        encode_rehearsed(Conversations(chats, list(range(11))), template, 3)
    table = [("a", "A"), ("b", "B"), ("c", "")]
    for part in read_rehearsed(table, system="Be brief.", skip_bad_rows=True):
        ((first, *_),) = part.messages
        assert first == {"role": "system", "content": "Be brief."} and len(part.bad_rows) == 1


def test_rows_that_are_too_long_are_left_out(template):
    examples = read_preferences(ROWS)
    (whole,) = describe_preferences(examples, None, template, 64)
    longest = list(map(max, zip(*whole.lengths.values(), strict=True)))
    most = sorted(longest)[-2]
    (summary,) = describe_preferences(examples, None, template, most)
    assert (whole.truncated, summary.truncated) == (0, 1)
    kept = fitting_preferences(examples, template, most)
    assert len(kept) == 5 and "Say hi." not in kept.prompts
    with pytest.raises(InputError, match="a row is longer than"):
        preferences(examples, template, max_length=most)
    with pytest.raises(InputError, match="no row fits into 3 tokens"):
        fitting_preferences(examples, template, 3)


def test_rows_are_encoded_once(template, monkeypatch):
    examples = read_preferences(ROWS)
    first = encode_preferences(examples, template)
    with monkeypatch.context() as patch:
        patch.setattr(ChatTemplate, "examples", None)  # a call would fail
        (summary,) = describe_preferences(examples, None, template, 64)
        kept = fitting_preferences(examples, template, 40)
        assert 0 < len(kept) < len(ROWS) == summary.rows
        indices = [[prompt for prompt, _, _ in ROWS].index(prompt) for prompt in kept.prompts]
        assert encode_preferences(kept, template) == [first[index] for index in indices]
        preferences(kept, template, max_length=64)
    other = ChatTemplate("<|system|>" + CHAT_TEMPLATE, template.tokenizer)
    assert encode_preferences(examples, other) != first, "of another template"


def test_messages_of_a_run_name_the_rows_that_fit(template, tmp_path, monkeypatch):
    class Zeros:
        weights = ()

        def predict(self, batches, verbose):
            return np.zeros(10)

    monkeypatch.chdir(tmp_path)
    examples = read_preferences(pandas.DataFrame(ROWS, columns=["prompt", "chosen", "rejected"]))
    lengths = [max(len(a.ids) for a in pair) for pair in encode_preferences(examples, template)]
    kept = fitting_preferences(examples, template, sorted(lengths)[-2])
    run = training.PreferenceRun("mine", {"name": "mine"})
    run.rows = examples.rows
    (reference,) = run.reference(Zeros(), template, kept)
    assert reference.shape == (5, 2)
    assert list(run.rows) == [row for i, row in enumerate(examples.rows) if i != 3]


def test_the_rehearsed_file_is_in_the_record(template, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = training.PreferenceRun("mine", {"name": "mine"})
    examples = read_preferences(ROWS)
    summaries = describe_preferences(examples, None, template, 64)
    monkeypatch.setattr(run._pictures, "lengths", lambda *arguments: None)
    run.show_data(summaries, examples)
    bad_rows = [BadRow(9, "output", "it is empty", ("x", ""))]
    read = [Conversations([[]] * n, range(n), "more/rows.csv", bad_rows=bad_rows) for n in (7, 3)]
    run.show_rehearsed(read, [[None] * 6, [None] * 3])
    said = capsys.readouterr().out
    assert "rehearsed   more/rows.csv: 9 rows, 1 longer one left out\n" in said
    training_rows, rehearsed = read_json(tmp_path / "runs" / "mine" / "data.json")
    assert (training_rows["name"], training_rows["rows"]) == ("training", 6)
    assert rehearsed == {
        "name": "rehearsed", "path": "more/rows.csv", "bad_rows": 1, "rows": 10, "truncated": 1
    }  # fmt: skip
    assert len(pandas.read_csv("runs/mine/bad_rows_rehearsed.csv")) == 1


@pytest.mark.parametrize(
    "old, changed",
    [
        ({"loss": "dpo", "csv": "a.csv"}, ["--sft-weight was 0.0 and is 0.5"]),
        ({"loss": "orpo", "csv": "a.csv"}, []),
        ({"loss": "orpo", "csv": ""}, ["--rehearse was 'no rows' and is None"]),
        ({"loss": "dpo", "csv": None, "sft_weight": 0.5, "rehearse": None}, []),
    ],
)
def test_an_interrupted_run_keeps_its_loss(recipe, old, changed):
    """Earlier versions had neither --sft-weight nor rehearsed rows."""
    now = {name: p.default for name, p in inspect.signature(recipe).parameters.items()}
    old = {"beta": 0.1} | old
    now |= {"beta": 0.1, "loss": old["loss"], "csv": old["csv"]}
    assert Identity(now, recipe).changes({"settings": old}) == changed


def test_a_reference_that_is_not_finite_is_named_by_its_row(template):
    examples = read_preferences(ROWS)
    model = CausalLM(TransformerConfig.of_size("nano", 290, max_sequence_length=64))
    model.compile("sgd", DPOLoss(), weighted_metrics=[])
    for place in range(12):
        reference = np.zeros((6, 2))
        reference[place // 2, place % 2] = np.nan
        options = {"batch_size": 3, "max_length": 64, "seed": 5}
        batches = preferences(examples, template, reference, **options)
        places = Places("my.csv", batches, list(range(2, 8)))
        step = next(n for n in (0, 1) if place // 2 in batches.examples(n))
        why = cause(model, batches.batch(batches.examples(step)), places.row_names(step))
        assert why == f"targets hold a number that is not finite: row {place // 2 + 2}"


def test_the_same_answer_twice_is_no_preference(tmp_path):
    path = tmp_path / "my.csv"
    pandas.DataFrame([("a", "b", "c"), ("d", "e", "e")]).to_csv(
        path, index=False, header=["prompt", "chosen", "rejected"]
    )
    with pytest.raises(InputError, match="row 3: .*the chosen and the rejected answer are the"):
        read_preferences(path)
    read = read_preferences(path, skip_bad_rows=True)
    assert (len(read), [bad.column for bad in read.bad_rows]) == (1, ["rejected"])
    with pytest.raises(InputError, match="'better'"):
        read_preferences(path, chosen="better")


def test_a_prompt_is_on_one_side():
    examples = read_preferences(ROWS + [(p, c + "!", r + "?") for p, c, r in ROWS])
    train, held_out = split_preferences(examples, 0.5, 1)
    assert len(train) == len(held_out) == 6
    assert not set(train.prompts) & set(held_out.prompts)


def test_the_data_set():
    read = read_preferences(resources.dataset_path("preferences.csv"))
    assert len(read) == 200 and len(set(read.prompts)) == 200
    japanese = sum(not prompt.isascii() for prompt in read.prompts)
    assert 80 <= japanese <= 120
    # Neither the longer nor the shorter answer is always the better one.
    longer = sum(len(c) > len(r) for c, r in zip(read.chosen, read.rejected, strict=True))
    assert 60 <= longer <= 140


# The recipe

SETTINGS = {
    "csv": "my.csv",
    "base": "base",
    "share": 0.34,
    "max_length": 64,
    "epochs": 2,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "warmup_steps": 1,
}


@pytest.fixture(scope="module")
def recipe():
    return cli.recipe_main("preference_finetuning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, template):
    """A table, and a base with random weights."""
    folder = tmp_path_factory.mktemp("work")
    header = ["prompt", "chosen", "rejected"]
    pandas.DataFrame(ROWS, columns=header).to_csv(folder / "my.csv", index=False)
    keras.utils.set_random_seed(1)
    size = template.tokenizer.vocabulary_size
    config = TransformerConfig.of_size("nano", size, "llama", max_sequence_length=64)
    save(folder / "base", CausalLM(config), template.tokenizer)
    return folder


@pytest.fixture
def quick(folder, bare, monkeypatch):
    """In that folder, without exports and pictures."""
    monkeypatch.chdir(folder)


def read_json(path):
    return json.loads(path.read_text("utf-8"))


def weights_of(folder, name):
    return safetensors.numpy.load_file(folder / "saved_models" / name / bundle.WEIGHTS)


def test_a_run_beside_its_base(recipe, folder, quick, capsys):
    result = recipe(**SETTINGS, sft_weight=0.0, name="mine")
    run = folder / "runs" / "mine"
    recorded = read_json(run / "result.json")
    assert result["scores"].keys() == {"preferred"}
    assert recorded["baselines"].keys() == {"the base"}
    assert recorded["conclusion"]["baseline"] == "base"
    assert {"low", "high"} <= read_json(run / "evaluation.json")["scores"]["preferred"].keys()
    said = capsys.readouterr().out
    assert "the base on 2 held-out pairs: chosen answers preferred" in said
    assert "元のモデル" in recorded["conclusion"]["sentences"]["ja"][0]
    before = safetensors.numpy.load_file(folder / "base" / bundle.WEIGHTS)
    after = weights_of(folder, "mine")
    assert before.keys() == after.keys()
    assert any(not np.array_equal(before[name], after[name]) for name in before)

    # The first step compares the base with itself: -log sigmoid(0).
    metrics = pandas.read_csv(run / "metrics.csv")
    assert 0.5 < metrics["loss"][0] < 0.8
    reference = np.load(run / "reference.npz")
    assert reference["part_0"].shape == (4, 2) and reference["part_1"].shape == (2, 2)
    assert (reference["part_0"] < 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_the_exports_of_a_run_answer_as_its_model(recipe, folder, monkeypatch, loss):
    monkeypatch.chdir(folder)
    rows = [(f"Say {word}.", f"{word}!") for word in ("seven", "eleven", "five", "three", "two")]
    pandas.DataFrame(rows, columns=["instruction", "output"]).to_csv("rows.csv", index=False)
    result = recipe(**SETTINGS, rehearse="rows.csv", loss=loss, name=f"exported_{loss}")
    assert {"SavedModel", "TFLite float32", "TFLite int8"} <= result["verified"].keys()
    path = folder / "saved_models" / f"exported_{loss}"
    prompts = [prompt for prompt, _, _ in ROWS]
    options = {"max_new_tokens": 7}
    model, tokenizer = load(path)
    written = text_generator(model, tokenizer).generate(prompts, **options)
    assert runtime.load(path, "float32").generate(prompts, **options) == written


@pytest.mark.slow  # the data and the loss have tests of their own
def test_a_run_that_rehearses(recipe, folder, quick, capsys):
    rows = [(f"Say {word}.", f"{word}!") for word in ("seven", "eleven", "five", "three", "two")]
    rows += [("Say much.", "much " * 64), ("Say nothing.", "")]
    pandas.DataFrame(rows, columns=["instruction", "output"]).to_csv("rows.csv", index=False)
    settings = SETTINGS | {"epochs": 1}
    recipe(**settings, rehearse="rows.csv", skip_bad_rows=True, name="rehearsed")
    listed = Path("runs/rehearsed/bad_rows_rehearsed.csv")
    card = (folder / "saved_models" / "rehearsed" / "README.md").read_text("utf-8")
    assert "rehearsed: rows.csv, 5 rows" in card
    assert "rehearsed   rows.csv: 5 rows, 1 longer one left out" in capsys.readouterr().out
    assert pandas.read_csv(listed)["row"].tolist() == [8]
    recipe(**settings, name="forgetting")
    first, second = (pandas.read_csv(f"runs/{n}/metrics.csv") for n in ("rehearsed", "forgetting"))
    # Weights are random, so each token of the five answers has a loss of about log 290 = 5.7.
    assert (first["val_loss"] - second["val_loss"])[0] > 3
    one, other = (weights_of(folder, name) for name in ("rehearsed", "forgetting"))
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_mistakes_are_reported(command, folder):
    run = ("run", "preference_finetuning")
    for flags, message in {
        (): "--base is empty.\n  Expected the assistant to train further",
        ("--base=nowhere",): "nowhere",
        (f"--base={folder / 'base'}", "--beta=0"): "beta is 0.0",
        (f"--base={folder / 'base'}", "--loss=ppo"): "invalid choice: 'ppo'",
        (f"--base={folder / 'base'}", "--sft-weight=-1"): "sft_weight is -1.0",
        (f"--base={folder / 'base'}", "--rehearse=none.csv"): "none.csv",
        (f"--base={folder / 'base'}", "--rehearse-weight=-1"): "weight of rehearsed rows is -1",
        (f"--base={folder / 'base'}", f"--csv={folder / 'my.csv'}", "--chosen=b"): "'b'",
        (f"--base={folder / 'base'}", "--loss=orpo", "--sft-weight=0.7"): (
            "--sft-weight is 0.7, but --loss orpo learns to write the chosen answers without it.\n"
            "  Choose --loss dpo, or leave out --sft-weight."
        ),
        (f"--base={folder / 'base'}", f"--csv={folder / 'my.csv'}", "--rehearse-weight=2"): (
            "--rehearse-weight is 2.0, but no rows are rehearsed.\n  Add --rehearse FILE"
        ),
    }.items():
        status, _, errors = command(*run, *flags)
        assert status == 2 and message in errors, (flags, errors)
    assert not os.listdir(".")


@needs_jax
@pytest.mark.slow
def test_several_devices_score_any_number_of_pairs(folder, quick):
    run_on_jax(
        """
        import numpy as np
        from test_preferences import ROWS
        from tfx_transformer import ChatTemplate, data, devices, training

        parts = data.read_preferences(ROWS[:4])
        found = []
        for count in "13":
            devices.use(devices.Devices(count))
            training.set_random_seed(1)
            model, tokenizer = training.text_base("base", "float32", "causal", 64)
            run = training.PreferenceRun(f"on_{count}", {})
            options = {"batch_size": 3, "max_length": 64}
            found += run.reference(model, ChatTemplate.of(tokenizer), parts, **options)
        np.testing.assert_allclose(*found, atol=1e-4)
        """,
        devices=3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "orpo"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_interrupted_run_ends_as_others_do(recipe, folder, quick, monkeypatch, loss, method):
    settings = {**SETTINGS, "loss": loss, "method": method, "epochs": 3}
    settings |= {} if method == "full" else {"base_dtype": "nf4", "accumulate": 2}
    recipe(**settings, name=f"whole_{loss}_{method}")

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    name = f"parts_{loss}_{method}"
    ends = training.PreferenceRun.ends
    with monkeypatch.context() as patch:
        patch.setattr(training.PreferenceRun, "ends", lambda *a, **k: [*ends(*a, **k), Interrupt()])
        with pytest.raises(KeyboardInterrupt):
            recipe(**settings, name=name)
    reference = folder / "runs" / name / "reference.npz"
    kept = reference.stat().st_mtime_ns
    recipe(**settings, name=name)
    assert reference.stat().st_mtime_ns == kept, "computed once"
    whole, parts = (weights_of(folder, n) for n in (f"whole_{loss}_{method}", name))
    for path in whole:
        np.testing.assert_array_equal(whole[path], parts[path], err_msg=path)

    # Another strength has the same reference; a damaged one is made again.
    settings |= {"beta": 0.5, "overwrite": True, "epochs": 1}
    recipe(**settings, name=name)
    assert reference.stat().st_mtime_ns == kept
    content = np.load(reference)["part_0"]
    reference.write_bytes(b"PK\x03\x04")
    recipe(**settings, name=name)
    np.testing.assert_array_equal(np.load(reference)["part_0"], content)
