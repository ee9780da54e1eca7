"""The package itself: public names come when they are used, and standard error is left alone."""

import importlib
import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tfx_transformer as tfx
from tfx_transformer import flags, renamed

# Counts redirections of file descriptor 2 while names are resolved in a fresh process, in which
# empty modules are in the place of those that take seconds to import.
COUNT = """
import os, sys, types
redirected, dup2 = [], os.dup2
os.dup2 = lambda source, target: (redirected.append(target), dup2(source, target))
import tfx_transformer as tfx
try:
    tfx.Clasifier
except AttributeError as error:
    assert "'Clasifier'" in str(error) and "Did you mean 'Classifier'?" in str(error), error
assert tfx.InputError and tfx.Tokenizer and tfx.vectors
assert not {"tensorflow", "keras"} & sys.modules.keys()
assert not redirected, "nothing of these starts TensorFlow"
for name in ("models", "models.encoders", "layers", "training"):
    sys.modules[f"tfx_transformer.{name}"] = types.ModuleType(name)
sys.modules["tfx_transformer.models.encoders"].Classifier = object()
assert tfx.Classifier is tfx.Classifier
assert redirected == [2, 2], redirected  # there and back
sys.modules["keras"] = types.ModuleType("keras")
assert tfx.layers and tfx.training
assert redirected == [2, 2], redirected
"""


def test_names_are_resolved_once_and_redirect_only_where_tensorflow_starts():
    done = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_resolved_name_is_kept():
    value = tfx.TransformerConfig
    assert vars(tfx)["TransformerConfig"] is value
    assert sorted(dir(tfx)) == sorted(set(dir(tfx)))


@pytest.mark.parametrize(
    "name, near",
    [("Clasifier", "Classifier"), ("fron_pretrained", "from_pretrained"), ("xqz", None)],
)
def test_an_unknown_name_is_an_attribute_error_that_suggests(name, near):
    with pytest.raises(AttributeError) as caught:
        getattr(tfx, name)
    assert repr(name) in str(caught.value)
    assert ("Did you mean" in str(caught.value)) == (near is not None)
    assert near is None or repr(near) in str(caught.value)


def test_muted_blocks_of_several_threads_give_standard_error_back():
    def where(descriptor):
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino, status.st_rdev

    before = where(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    entered, leave = threading.Event(), threading.Event()

    def first():
        with flags.silence():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(10)
    with flags.silence():
        leave.set()
        thread.join(10)  # the first to come leaves first: a copy of its own would be lost
        assert where(2) == where(nowhere)
    os.close(nowhere)
    assert where(2) == before


def test_nothing_is_muted_where_standard_error_is_closed():
    source = """
import os, sys
from tfx_transformer import flags
os.close(2)
sys.stderr = None
with flags.silence(), flags.silence():
    pass
print(flags._muters)
"""
    done = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "0\n")


RENAMED = [
    (tfx, "annotate", "update_config"),
    (tfx, "fine_tuned", "config_for_fine_tuning"),
    (tfx, "merged", "merge_adapters"),
    (tfx, "take_over", "copy_weights"),
    (tfx.bundle, "whole", "consistent_read"),
    (tfx.data, "beginnings", "sample_prefixes"),
    (tfx.data, "masked", "mask_tokens"),
    (tfx.flags, "guarded", "run_action"),
    (tfx.flags, "muted", "silence"),
    (tfx.training, "augmented", "augment_images"),
]


@pytest.mark.parametrize(("module", "old", "new"), RENAMED, ids=lambda value: str(value)[-9:])
def test_an_old_name_works_and_warns_where_it_is_used(module, old, new):
    with pytest.warns(FutureWarning, match=rf"{old} is now called {new}\.") as caught:
        found = getattr(module, old)
    assert found is getattr(module, new)
    assert caught[0].filename == __file__
    assert old not in dir(module)


def test_no_other_old_name_is_found():
    with pytest.raises(AttributeError, match="'tfx_transformer.data' has no attribute 'mask'"):
        _ = tfx.data.mask


def test_an_old_method_and_an_old_attribute_work_and_warn():
    class Thing:
        size = 7

        def add(self, a, b=3):
            return self.size + a * b

        plus = renamed.old_method("Thing.plus", "add")
        length = renamed.old_attribute("Thing.length", "size")

    with pytest.warns(FutureWarning, match=r"Thing\.plus is now called add\.") as caught:
        assert Thing().plus(2, b=5) == 17
    assert caught[0].filename == __file__
    with pytest.warns(FutureWarning, match=r"Thing\.length is now called size\."):
        assert Thing().length == 7


@pytest.mark.parametrize(
    ("path", "old"),
    [
        ("models.encoders.EncoderModel", "pooled"),
        ("models.encoders.EncoderModel", "embedded"),
        ("models.base.TransformerModel", "embedded_content"),
        ("generation.text.TextGenerator", "encoder"),
        ("prediction.TextEmbedder", "prompted"),
        ("text.prompts.ChatTemplate", "rendered"),
        ("training.Run", "done"),
    ],
)
def test_classes_keep_their_old_names(path, old):
    module, _, name = path.rpartition(".")
    owner = getattr(importlib.import_module(f"tfx_transformer.{module}"), name)
    value = vars(owner)[old]
    function = value.fget if isinstance(value, property) else value
    named = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
    assert named["old_name"].cell_contents == f"{name}.{old}"
    assert named["new_name"].cell_contents in dir(owner) or name == "TextGenerator"


def package_modules():
    folder = Path(tfx.__file__).parent
    return [file.parent for file in sorted(folder.rglob("__init__.py"))]


@pytest.mark.parametrize("folder", package_modules(), ids=lambda folder: folder.name)
def test_no_module_is_hidden_by_something_of_its_name(folder):
    parts = folder.relative_to(Path(tfx.__file__).parent.parent).parts
    package = importlib.import_module(".".join(parts))
    for file in folder.glob("[!_]*.py"):
        value = getattr(package, file.stem, None)
        assert value is None or inspect.ismodule(value), f"{'.'.join(parts)}.{file.stem}"
