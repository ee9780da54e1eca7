"""README's Python in a notebook: nothing in red, pictures inline, and short descriptions."""

import os

import nbclient
import nbformat
import pytest
from test_readme import README, blocks, write_datasets

# What a person looks at in a cell of its own.
LOOKED_AT = (
    "pairs", "chats", "texts", "tokenizer", "config", "template", "translator", "chat",
    "runtime.load('saved_models/topics')", "tfx.data.describe_pairs(pairs, None, tokenizer, 24)",
    "tfx.load('saved_models/mine', task='seq2seq')[0]", "held_out",
    "tfx.predictor(classifier, tokenizer, names).classify('It rained all night.')",
)  # fmt: skip
PICTURE = 'tfx.pictures.loss_curve("loss.png", [{"epoch": 1, "loss": 3.0}])'
MOST_LINES, MOST_CHARACTERS = 8, 800


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> dict[str, list]:
    """The outputs of each cell, by its source."""
    folder = tmp_path_factory.mktemp("notebook")
    write_datasets(folder / "datasets")
    shown = blocks(README.read_text(encoding="utf-8"))
    sources = [block.code for block in shown if block.language == "python"]
    sources += [*LOOKED_AT, PICTURE]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    # As a person's notebook is, without what conftest.py sets.
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    place = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=place).execute(env=environment)
    return {cell.source: cell.outputs for cell in notebook.cells}


QUIET = ("TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES", "MPLBACKEND")


def test_nothing_is_shown_in_red(cells):
    red = [
        output.text
        for outputs in cells.values()
        for output in outputs
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert not red, "\n".join(red)


@pytest.mark.parametrize("source", LOOKED_AT)
def test_what_is_looked_at_is_described_in_a_few_lines(cells, source):
    (output,) = (o for o in cells[source] if o.output_type == "execute_result")
    text = output.data["text/plain"]
    assert len(text.splitlines()) <= MOST_LINES and len(text) <= MOST_CHARACTERS, text


def test_a_picture_is_shown(cells):
    (output,) = cells[PICTURE]
    assert output.data["image/png"].startswith("iVBORw0KGgo")  # base64 of what a PNG begins with
    assert output.data["text/plain"] == "Picture(loss.png, 1,050 × 675 pixels)"
