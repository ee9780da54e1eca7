"""What training shows and when it stops, with a clock of our own."""

import importlib
import io
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_models import tiny_causal

from tfx_transformer import training
from tfx_transformer.console import width
from tfx_transformer.data.batches import BatchPlan, tf_dataset
from tfx_transformer.errors import InputError
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.reprs import duration
from tfx_transformer.training import Previews, Progress, Run, TimeLimit, callbacks, new_bundle_path
from tfx_transformer.training.callbacks import HeldOutScore, WorthSaving
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.resume import Resume
from tfx_transformer.training.terminal import result_lines, written_scores_line


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to: clock.now += 60."""
    clock = types.SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("epochs", "counted"), [(1, "1 epoch"), (7, "7 epochs")])
def test_the_result_in_lines(epochs, counted):
    training = {"epochs": epochs, "seconds": 63.2, "best_epoch": 1}
    scores = written_scores_line({"exact_match": 0.5, "bleu": 61.2})
    assert result_lines(training, scores, Path("runs/r")) == [
        f"{counted} in 1 min 03 s, the best was epoch 1.",
        "Held out: BLEU 61.2, 50.0 % exactly right.",
        "Pictures are in runs/r/",
    ]
    waited = result_lines(training | {"waiting": 0.0314}, "", Path("runs/r"))
    assert waited[1] == "Steps waited for data in 3.1 % of their time."


def test_one_line_stays_of_each_epoch(clock, capsys):
    progress = Progress(tokens_per_epoch=12_000)
    progress.set_params({"steps": 4, "epochs": 30})
    progress.on_train_begin()
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        for batch in range(4):
            clock.now += 1
            progress.on_train_batch_end(batch, {"loss": 3.0})
        clock.now += 2  # validation
        logs = {"loss": 2.0} if epoch == 0 else {
            "loss": 1.25,
            "val_loss": 1.5,
            "val_perplexity": 2.3456,
            "val_token_accuracy": 0.5,
        }  # fmt: skip
        progress.on_epoch_end(epoch, logs)
    output, errors = capsys.readouterr()
    assert output == (
        # The first step, which compiles, does not count: 3 of 4 steps in 5 seconds.
        "epoch   1/30  loss 2.000  1,800 tokens/s  6 s\n"
        # There is no room for the speed.
        "epoch   2/30  loss 1.250  val 1.500  perplexity 2.35  token accuracy 50.0 %\n  12 s\n"
    )
    assert errors == "", "no line that moves where nobody looks"


@pytest.mark.parametrize(
    ("logs", "shown"),
    [
        ({"val_accuracy": 0.625}, "accuracy 62.5 %"),
        ({"val_accuracy": 0.5, "val_macro_f1": 0.4567}, "accuracy 50.0 %  macro-F1 45.7 %"),
        ({"val_found": 0.3}, "found 30.0 %"),
        ({"val_spearman": -0.1234}, "Spearman -0.123"),
        ({"val_bits_per_byte": 1.23456}, "1.235 bits per byte"),
    ],
    ids=["accuracy", "macro-F1", "found", "Spearman", "bits per byte"],
)
def test_what_is_measured_is_shown_in_its_unit(clock, capsys, logs, shown):
    progress = Progress(tokens_per_epoch=12, unit="images")
    progress.set_params({"steps": 3, "epochs": 5})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    clock.now += 4
    progress.on_epoch_end(0, {"loss": 2.0, "val_loss": 1.0, **logs})
    speed = "" if "macro" in shown else "  3 images/s"  # for which there is no room
    line = f"epoch   1/5  loss 2.000  val 1.000  {shown}{speed}  4 s\n"
    assert capsys.readouterr().out == line


def test_a_line_moves_in_a_terminal(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    progress = Progress(tokens_per_epoch=10_000)
    progress.set_params({"steps": 100, "epochs": 2})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    for batch in range(12):
        clock.now += 0.1
        progress.on_train_batch_end(batch, {"loss": 3.0})
    shown = terminal.getvalue().split("\r\x1b[K")
    assert len(shown) == 3, "at most twice a second"
    assert shown[-1] == "epoch 1/2  step 11/100  loss 3.000  1,000 tokens/s  19 s left at most"
    monkeypatch.setenv("COLUMNS", "20")
    clock.now += 1
    progress.on_train_batch_end(12, {"loss": 3.0})
    assert terminal.getvalue().split("\r\x1b[K")[-1] == "epoch 1/2  step 13/"


def test_training_stops_before_the_limit(clock):
    # Three minutes an epoch: after three of them a fourth would end after ten minutes.
    limit = TimeLimit(minutes=10)
    limit.set_model(model := types.SimpleNamespace(stop_training=False))
    limit.on_train_begin()
    stopped = []
    for epoch in range(3):
        clock.now += 180
        limit.on_epoch_end(epoch)
        stopped.append(model.stop_training)
    assert stopped == [False, False, True]
    # One more epoch is to fit after the second one.
    limit = TimeLimit(minutes=10, later=1)
    limit.set_model(model := types.SimpleNamespace(stop_training=False))
    limit.on_train_begin()
    for epoch, expected in enumerate([False, True]):
        clock.now += 180
        limit.on_epoch_end(epoch)
        assert model.stop_training == expected
    assert limit.rest().minutes == pytest.approx(4) and limit.rest().later == 0


def test_previews_show_what_changed(capsys):
    answers = iter([["x", "y"], ["x", "z"], ["x", "Y"]])
    previews = Previews(lambda texts: next(answers), ["a", "b"], ["x", "Y"])
    shown = []
    for epoch in range(3):
        previews.on_epoch_end(epoch)
        shown.append(capsys.readouterr().out)
    assert shown == [
        "      a → x\n      b → y (expected: Y)\n",
        "      b → z (expected: Y)\n",
        "      b → Y\n",
    ]
    assert [tuple(row.values()) for row in previews.history] == [
        (1, "a", "x", "x"),
        (1, "b", "y", "Y"),
        (2, "a", "x", "x"),
        (2, "b", "z", "Y"),
        (3, "a", "x", "x"),
        (3, "b", "Y", "Y"),
    ]


def test_previews_of_long_texts_fit_a_terminal(capsys):
    long, wide = "word " * 40, "猫が好きです。" * 20
    Previews(lambda texts: [wide, "b"], [long, wide], ["x", long]).on_epoch_end(0)
    lines = capsys.readouterr().out.splitlines()
    starts = ["      word", "        → 猫", "        (expected: x)"]
    starts += ["      猫が", "        → b", "        (expected: word"]
    assert len(lines) == 6 and max(map(width, lines)) <= 79
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True)), lines


def test_a_score_is_known_to_the_callbacks_after_it():
    scores, known = iter([0.25, 0.75, 0.5]), []
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: known.append(logs["val_f"])
    )
    stopping = keras.callbacks.EarlyStopping("val_f", mode="max", patience=1)
    watch = [HeldOutScore("f", lambda: next(scores)), after, stopping]
    history = model.fit(np.ones((1, 1)), np.ones(1), epochs=9, callbacks=watch, verbose=0).history
    assert known == history["val_f"] == [0.25, 0.75, 0.5], "and the third is not better"


def test_a_run_stops_early_and_keeps_the_best(tmp_path):
    run = Run("r", {}, root=tmp_path)
    texts = (["a", "b"], ["x", "y"])
    progress, previews, stopping, worth = run.callbacks(None, *texts, patience=7)
    assert isinstance(worth, WorthSaving)
    assert isinstance(progress, Progress) and isinstance(previews, Previews)
    assert (previews.texts, previews.references) == (["a", "b"], ["x", "y"])
    assert isinstance(stopping, keras.callbacks.EarlyStopping)
    assert (stopping.monitor, stopping.patience) == ("val_loss", 7)
    assert stopping.restore_best_weights
    limits = [c for c in run.callbacks(None, *texts, minutes=1.5) if isinstance(c, TimeLimit)]
    assert [(limit.minutes, limit.later) for limit in limits] == [(1.5, 0)]
    run.settings = {"quantization_aware": "int8", "quantization_epochs": 2}
    (limit,) = (c for c in run.callbacks(None, *texts, minutes=3) if isinstance(c, TimeLimit))
    assert (limit.minutes, limit.later) == (3, 2)


def test_epochs_with_rounded_weights_have_the_minutes_that_are_left(tmp_path, clock, monkeypatch):
    module = importlib.import_module("tfx_transformer.training.run")
    found = []

    def fit(model, batches, checks, epochs, callbacks, **_):
        for callback in callbacks:
            if isinstance(callback, TimeLimit):
                callback.on_train_begin()
        clock.now += 240

    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(module, "model_of", lambda *_: {})
    monkeypatch.setattr(module, "train_rounded", lambda *arguments, **_: found.extend(arguments))
    run = Run("r", {"quantization_aware": "int8", "learning_rate": 1e-3}, root=tmp_path)
    watch = run.callbacks(None, minutes=10)
    run.fit(types.SimpleNamespace(task="causal"), [0] * 3, [0], 5, watch)
    _, _, _, epochs, (progress, limit) = found
    assert epochs == 3 and progress is watch[0]
    assert isinstance(limit, TimeLimit) and limit.minutes == pytest.approx(6)


def test_a_run_replaces_what_an_earlier_one_left(tmp_path):
    (tmp_path / "r").mkdir()
    for name in ("settings.json", "loss.png"):
        (tmp_path / "r" / name).write_bytes(b"")
    Run("r", {"epochs": 3, "path": tmp_path, "猫": "ネコ"}, root=tmp_path)
    left = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert left == ["files.json", "lock", "settings.json"]
    text = (tmp_path / "r" / "settings.json").read_text("utf-8")
    assert f'"path": "{tmp_path}"' in text and '"猫": "ネコ"' in text


@pytest.mark.parametrize("history", [{}, {"loss": [1.0]}, {"val_loss": [float("nan")] * 2}])
def test_a_training_without_a_result(history):
    worth = WorthSaving()
    worth.set_model(types.SimpleNamespace(history=types.SimpleNamespace(history=history)))
    with pytest.raises(InputError, match="training failed"):
        worth.on_train_end()


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "/etc", "a:b", 'a"b'])
def test_names_that_are_no_folder(tmp_path, name):
    with pytest.raises(InputError, match="cannot be a folder's name"):
        new_bundle_path(name, True, root=tmp_path)


def test_a_name_that_is_free(tmp_path):
    assert new_bundle_path("en_ja-2", False, root=tmp_path) == tmp_path / "en_ja-2"
    assert list(tmp_path.iterdir()) == []


def test_the_seed_decides_every_draw():
    draws = []
    for _ in range(2):
        training.set_random_seed(5)
        draws.append(keras.ops.convert_to_numpy(keras.random.uniform((3,))).tolist())
    assert draws[0] == draws[1]


def test_metrics_are_made_from_one_example(tmp_path, monkeypatch):
    """A whole batch may not fit into the memory of one device."""
    texts, seen = np.arange(3, 18, dtype="int32").reshape(3, 5), []

    def batch(rows):
        return {"token_ids": texts[rows, :-1]}, texts[rows, 1:]

    def decode(model, token_ids, **options):
        seen.append(len(token_ids))
        return decoded(model, token_ids, **options)

    decoded = CausalLM.decode
    monkeypatch.setattr(CausalLM, "decode", decode)
    model = tiny_causal(num_layers=1)
    model.compile(training.adamw())
    seen.clear()
    batches = tf_dataset(BatchPlan(np.full(3, 4), 3), batch)
    assert not Resume(Checkpoints(tmp_path), [], batches, 1, {}).begin(model)
    assert seen == [1]
    assert model.get_metrics_result()["perplexity"] == 1  # nothing is counted
