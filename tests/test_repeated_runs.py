"""The end of a training: the model is saved first, and a repeated command makes what is missing."""

import contextlib
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
from slow import ALL_TESTS

from tfx_transformer import bundle, export
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.saving import is_saved, load, save, update_config
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import Run

ALL = ["model.int8.tflite", "model.litertlm", "model.tflite", "saved_model"]


def make(seed=0, text="the cat sat on the mat"):
    """A small model with random weights, and its tokenizer."""
    tokenizer = Tokenizer.train([text], 270)
    config = TransformerConfig.of_size(
        "nano", tokenizer.vocabulary_size, "llama", num_layers=1, max_sequence_length=11
    )
    model = CausalLM(config)
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape))
    return model, tokenizer


@pytest.fixture(scope="module")
def made():
    return make()


@pytest.fixture
def path(made, tmp_path):
    """A bundle without exports."""
    save(tmp_path / "made", *made)
    return tmp_path / "made"


@pytest.fixture
def exports(monkeypatch):
    """Exports that only leave a file, and fail as they are told: {name: error}; and what was done
    in each call."""
    failing, done = {}, []

    class Converter(contextlib.nullcontext):
        pass

    class Conversion:
        def __init__(self, model, targets, converter, *_, **__):
            self.targets, self.failed = targets, {}

        def __enter__(self):
            pass

        def __exit__(self, kind, *_):
            for name, file in self.targets.items():
                try:
                    leave(file)
                except Exception as error:
                    self.failed[name] = error
            for error in self.failed.values():
                raise error

    def leave(file):
        done.append(file.name)
        file.unlink(missing_ok=True)  # what is in a bundle is replaced, not changed
        file.write_text("half")
        if file.name in failing:
            raise failing[file.name]
        file.write_text("whole")

    def write_saved_model(folder, model, tokenizer):
        (folder / "saved_model").mkdir(exist_ok=True)
        leave(folder / "saved_model" / "saved_model.pb")

    def verify(path, inputs, model=None, generator=None):
        found = {name: {"identical": 1, "of": 1, "summary": ""} for name in present(path)}
        update_config(path, verified=found)
        return found

    monkeypatch.setattr(export, "Converter", Converter)
    monkeypatch.setattr(export, "Conversion", Conversion)
    monkeypatch.setattr(export, "write_saved_model", write_saved_model)
    monkeypatch.setattr(export, "write_run_pyz", lambda folder: None)
    monkeypatch.setattr(export, "write_litertlm", lambda f, *_: leave(f / "model.litertlm"))
    monkeypatch.setattr(export, "verify", verify)
    return failing, done


def present(path):
    return sorted(name for name in ALL if (path / name).exists())


def test_all_are_made_once(path, exports):
    _, done = exports
    assert sorted(export.everything(path, [])) == ALL == present(path)
    assert len(done) == 4
    export.everything(path, [])
    assert len(done) == 8, "asked for again when all was done, they are made anew"
    export.everything(path, [], only_missing=True)
    assert len(done) == 8
    bundle.verify(path)


@pytest.mark.parametrize(
    ("broken", "left"),
    [
        ("saved_model.pb", ["model.int8.tflite", "model.litertlm", "model.tflite"]),
        ("model.litertlm", ["model.int8.tflite", "model.tflite", "saved_model"]),
        ("model.tflite", ["model.int8.tflite", "model.litertlm", "saved_model"]),
        ("model.int8.tflite", ["model.tflite", "saved_model"]),
    ],
)
@pytest.mark.parametrize("error", [InputError("cannot be done"), RuntimeError("cannot be done")])
def test_one_that_fails_leaves_the_others(path, exports, broken, left, error):
    failing, done = exports
    failing[broken] = error
    with pytest.raises(type(error), match="cannot be done") as caught:
        export.everything(path, [])
    if isinstance(error, InputError):
        assert f"{path} has the trained model, but not all exports:\n  " in str(caught.value)
    else:
        assert caught.value.__notes__[-1].startswith(f"So {path} has no ")
    assert present(path) == left and sorted(bundle.read_config(path)["verified"]) == left
    bundle.verify(path)
    failing.clear()
    done.clear()
    export.everything(path, [])
    assert present(path) == ALL
    assert len(done) == len(ALL) - len(left), "only what is missing"
    assert all((path / name).read_text() == "whole" for name in ALL[:3])


def test_a_failing_verification_leaves_the_exports(path, exports, monkeypatch):
    _, done = exports
    verify = export.verify

    def fail(*_, **__):
        raise InputError("answers differ")

    monkeypatch.setattr(export, "verify", fail)
    with pytest.raises(InputError, match="answers differ"):
        export.everything(path, [])
    assert present(path) == ALL
    monkeypatch.setattr(export, "verify", verify)
    export.everything(path, [])
    assert len(done) == 4 and sorted(bundle.read_config(path)["verified"]) == ALL


# Saving


def test_a_model_is_known_again(path, made):
    model, tokenizer = made
    update_config(path, scores={"bleu": 1.0})
    assert is_saved(path, model, tokenizer) and is_saved(path, *load(path))
    assert not is_saved(path, make(seed=1)[0], tokenizer), "other weights"
    assert not is_saved(path, model, make(text="a dog ran")[1]), "another vocabulary"
    assert not is_saved(path, model, tokenizer, labels=["a"])
    assert not is_saved(path.parent / "none", model, tokenizer)
    (path / "README.md").write_text("forged")
    assert not is_saved(path, model, tokenizer), "damaged"


def test_only_a_run_that_goes_on_leaves_its_bundle(made, tmp_path, capsys):
    model, tokenizer = made
    path = tmp_path / "saved" / "r"

    def run(**settings):
        return Run("r", settings, root=tmp_path / "runs")

    run().save(path, model, tokenizer)
    update_config(path, scores={"bleu": 1.0})
    goes_on = run()
    goes_on.checkpoints.save(3, {"x": np.ones(3)}, {"step": 3, "settings": {}})
    goes_on = run()
    assert goes_on.goes_on
    goes_on.save(path, model, tokenizer)
    assert "holds the trained model already" in capsys.readouterr().out
    assert bundle.read_config(path)["scores"] == {"bleu": 1.0}
    goes_on.save(path, make(seed=1)[0], tokenizer)
    assert "scores" not in bundle.read_config(path)
    goes_on.close({})
    with pytest.raises(InputError, match="exists already"):
        run().save(path, model, tokenizer)
    run(overwrite=True).save(path, model, tokenizer)
    assert is_saved(path, model, tokenizer) and os.listdir(path.parent) == ["r"]


# Kills


def finish(path, source):
    """The end of a training, which has saved the model before if it is the same one."""
    weights = source / bundle.WEIGHTS
    if not (path.exists() and (path / bundle.WEIGHTS).read_bytes() == weights.read_bytes()):
        with bundle.writing(path, overwrite=True) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
    update_config(path, scores={"bleu": 1.0})
    export.everything(path, [])


def test_kills_at_any_moment(path, exports, monkeypatch):
    """With exports that only leave a file; those of models are killed by `make soak`."""
    monkeypatch.setattr(export, "load", lambda path: (type("M", (), {"config": None}), None))
    source, made = path, path.with_name("result")
    begin = time.monotonic()
    finish(made, source)
    seconds, expected = time.monotonic() - begin, tree(made)
    shutil.rmtree(made)
    random.seed(1)
    wanted, kills = (200 if ALL_TESTS else 5), 0
    while kills < wanted:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    finish(made, source)
                    os._exit(0)
                os._exit(1)
            time.sleep(random.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            kills += os.waitpid(child, 0)[1] == signal.SIGKILL
            if made.exists():
                bundle.verify(made)
        finish(made, source)
        assert tree(made) == expected
        assert sorted(os.listdir(path.parent)) == [path.name, "result"], "nothing is left behind"
        shutil.rmtree(made)


def tree(path):
    """Every file below a folder and what it holds."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
