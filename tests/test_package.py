"""The package itself: public names come when they are used, and standard error is left alone."""

import os
import subprocess
import sys
import threading

import pytest

import tfx_transformer as tfx
from tfx_transformer import flags

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
        with flags.muted():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(10)
    with flags.muted():
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
with flags.muted(), flags.muted():
    pass
print(flags._muters)
"""
    done = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "0\n")
