"""Settings and fixtures of all tests: quiet libraries, fixed seeds, shared bundles, real data."""

import atexit
import collections
import os
import random
import re
import sys
from pathlib import Path
from unittest import mock

# Before anything imports TensorFlow or Matplotlib; processes that tests start inherit them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
# Two workers share two cores: threads of one would wait for those of the other, and spin.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
import shortcuts
from assistant import assistant  # noqa: F401, a fixture
from encoder_bundles import (  # noqa: F401, fixtures
    encoder_texts,
    encoder_words,
    image_classifier,
    text_classifier,
    text_embedder,
    topic_classifier,
)
from page_bundles import page_bundles  # noqa: F401, a fixture
from slow import ALL_TESTS, leave_out
from trained import trained  # noqa: F401, a fixture

from tfx_transformer import cli, flags

ROOT = Path(__file__).resolve().parent.parent

# Bundle that takes half a minute or more to make -> files that need it.
NEEDED = {
    "trained": ("tests/test_cli.py", "tests/test_export.py", "tests/test_serve_translator.py"),
    "assistant": (
        "tests/test_assistant.py",
        "tests/test_constraint.py",
        "tests/test_litertlm.py",
        "tests/test_serve.py",
        "tests/test_transformers.py",
    ),
    "encoder_bundles": (
        "tests/test_cli_classify.py",
        "tests/faults/test_hostile_models.py",
        "tests/test_encoder_export.py",
        "tests/test_search.py",
        "tests/test_serve_readers.py",
        "tests/test_teachers.py",
        "tests/test_text_columns.py",
    ),
}

# Files that take a minute start first, longest first, so that both workers end at the same time.
FIRST = (
    "tests/test_readme.py",
    *NEEDED["encoder_bundles"],
    *NEEDED["trained"],
    *NEEDED["assistant"],
    "tests/test_text_classification_recipe.py",
    "tests/conformance/test_models.py",
    "tests/test_causal.py",
    "tests/test_contributing.py",
)

# Examples have no deadline: their time depends on the load of the machine.
hypothesis.settings.register_profile("patient", deadline=None, max_examples=30)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=100)
hypothesis.settings.load_profile("thorough" if ALL_TESTS else "patient")


@pytest.hookimpl(tryfirst=True)  # so that `-m slow` selects what is left
def pytest_collection_modifyitems(config, items):
    missing = leave_out(items)
    if missing and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"slow(but=...) names no variant: {', '.join(sorted(missing))}")
    files = [item.nodeid.split("::")[0] for item in items]
    counts = collections.Counter(files)
    places = {file: place for place, file in enumerate(FIRST)}
    order = sorted(
        range(len(items)), key=lambda n: (places.get(files[n], len(FIRST)), -counts[files[n]])
    )
    items[:] = [items[n] for n in order]


def pytest_collection_finish() -> None:
    """Take the shortcuts of the tests for what is imported by now: `quick`, below, comes after the
    fixtures of a session and of a module."""
    shortcuts.take()


def pytest_unconfigure(config) -> None:
    """Discard LiteRT's C++ logs at the end of the process: pytest's summary stays the last line.

    The function is registered last, so it runs first, and after pytest has restored descriptors. A
    worker of pytest-xdist has reported all by then. It ends without freeing gigabytes of models one
    by one: the controller would wait for that, up to 10 s.
    """

    def end() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if hasattr(config, "workerinput"):
            atexit.unregister(end)
            atexit._run_exitfuncs()
            os._exit(0)

    atexit.register(end)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Return the scheduler of `--dist loadfile`, with all files of one bundle on one worker, which
    makes the bundle once.

    Not `loadgroup`: with pytest 9.2 xdist (3.8) does not find its groups.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the order of `pytest_collection_modifyitems`

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((bundle for bundle, files in NEEDED.items() if file in files), file)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def seeds():
    """Start every test from the same random state."""
    random.seed(1)
    np.random.seed(1)
    if "keras" in sys.modules:
        # Layers draw their seeds from Python. TensorFlow's own seed would make it forget its
        # kernels, and building them again for each test takes a tenth of all the time.
        with mock.patch("tensorflow.random.set_seed"):
            sys.modules["keras"].utils.set_random_seed(1)


@pytest.fixture(autouse=True)
def quick():
    """Take the shortcuts of the tests for what was imported since."""
    shortcuts.take()


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command in this process, in an empty folder, and returns
    (status, output, errors).

    `flags.hush` would redirect standard error for all later tests; test_cli.py tests it in
    processes of their own.
    """
    monkeypatch.setattr(flags, "hush", lambda: None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([str(a) for a in arguments])
        return (caught.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def bare(monkeypatch):
    """Make recipes skip exports and draw pictures of one pixel: both take longer than training."""
    from matplotlib.figure import Figure
    from PIL import Image

    def save(figure, file, **_):
        Image.new("L", (1, 1)).save(file, "PNG")

    monkeypatch.setattr(Figure, "savefig", save)
    monkeypatch.setattr("tfx_transformer.export.everything", lambda *_, **__: {})


@pytest.fixture
def fitted(monkeypatch):
    """Return a function that runs a recipe up to `fit`, and returns the model and the arguments of
    `fit`: {"x": one epoch, "validation_data": …}."""
    import keras

    class Fitted(Exception):
        pass

    def fit(model, x, y=None, **options):
        raise Fitted(model, {"x": x.take(options["steps_per_epoch"]), **options})

    monkeypatch.setattr(keras.Model, "fit", fit)

    def run(recipe, **settings):
        with pytest.raises(Fitted) as caught:
            recipe(**settings)
        return caught.value.args

    return run


@pytest.fixture
def converted(monkeypatch, tmp_path):
    """Return a function that runs the lines of Python in a message, and returns the file they
    write."""

    def run(message: str) -> Path:
        lines = [line.removeprefix("  ") for line in message.split("\n")]
        code = [line for line in lines if re.match(r"import |(\w+ = )?\w+[(.]|\w+ = ", line)]
        monkeypatch.chdir(tmp_path)
        before = set(tmp_path.iterdir())
        exec("\n".join(code), {})
        (new,) = set(tmp_path.iterdir()) - before
        return new

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data next to the repository; skip the test if it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared/data beside the repository")
    return folder
