"""What README.md and the pages of docs/ show works: their Python and shell blocks run, in order,
in one folder that holds nothing but data sets.

The Python runs in a notebook, which shows nothing in red, pictures, and short descriptions.

A block under a line `<!-- not run -->` is left out (installing, minutes of training), and so is
every block that is neither `python` nor `bash`.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from blocks import JAPANESE, PAGES, README, Block, blocks, write_datasets
from slow import ALL_TESTS

from tfx_transformer import cli, export, flags

ROOT = Path(__file__).resolve().parent.parent


# What a person looks at in a cell of its own, how much is shown of it, and a picture.
LOOKED_AT = (
    "pairs", "chats", "texts", "tokenizer", "config", "template", "translator", "chat",
    "runtime.load('saved_models/topics')", "tfx.data.describe_pairs(pairs, None, tokenizer, 24)",
    "tfx.load('saved_models/mine', task='seq2seq')[0]", "held_out",
    "tfx.predictor(classifier, tokenizer, names).classify('It rained all night.')",
)  # fmt: skip
MOST_LINES, MOST_CHARACTERS = 8, 800
PICTURE = 'tfx.pictures.loss_curve("loss.png", [{"epoch": 1, "loss": 3.0}])'

# A training of README.md is cut short, but with ALL_TESTS=1.
SHORTENED = re.compile(r"^tfx-transformer run \w+\b.*$", re.MULTILINE)
SHORT = "" if ALL_TESTS else " --epochs 1 --size nano --max-length 16 --linear-buckets 0"

# Commands that start in no time.
WITHOUT_MODEL = ("recipes", "check")

# After each block, unseen: what it imported is faster from then on.
SHORTCUTS = (
    f"import sys; sys.path.append({str(ROOT / 'tests')!r}); import shortcuts\nshortcuts.take()"
)

# What makes libraries quiet, and is not set where a person starts a notebook.
QUIET = ("TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES", "MPLBACKEND")


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, list]:
    """What a notebook shows of every block and of `LOOKED_AT`: the outputs, by the source. The
    Python runs in its kernel, as a person's does: without what conftest.py sets."""
    folder = tmp_path_factory.mktemp("readme")
    write_datasets(folder / "datasets")
    environment = {name: value for name, value in os.environ.items() if name not in QUIET}
    notebook, outputs = nbformat.v4.new_notebook(), {}
    client = nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(folder)}}
    )

    def run(source: str) -> None:
        cell = nbformat.v4.new_code_cell(source)
        notebook.cells.append(cell)
        client.execute_cell(cell, len(notebook.cells) - 1)
        outputs[source] = cell.outputs

    with client.setup_kernel(env=environment):
        run("import tfx_transformer as tfx\ntfx.export.saved_model, tfx.Classifier\n" + SHORTCUTS)
        for page in PAGES:
            for block in blocks(page.read_text(encoding="utf-8")):
                if block.language == "python":
                    run(block.code)
                    run(SHORTCUTS)
                    continue
                where = f"{page.name}, line {block.line}:\n{block.code}\n"
                run_commands(SHORTENED.sub(rf"\g<0>{SHORT}", block.code), folder, where)
        for source in (*LOOKED_AT, PICTURE):
            run(source)
    return outputs


def run_commands(code: str, folder: Path, where: str) -> None:
    """Run a block of a shell. Without ALL_TESTS, commands with a model run in this process, where
    TensorFlow has started; tests of the commands run them in processes of their own."""
    if ALL_TESTS:
        return run_shell(code, folder, where)
    for line in code.replace("\\\n", " ").splitlines():
        program, verb, *arguments = shlex.split(line, comments=True) or ("", "")
        if program == "tfx-transformer" and verb not in WITHOUT_MODEL:
            run_here([verb, *arguments], folder, where)
        else:
            run_shell(line, folder, where)


def run_here(arguments: list[str], folder: Path, where: str) -> None:
    """Run the command in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.chdir(folder)
        patch.setattr(flags, "hush", lambda: None)
        patch.setattr("tfx_transformer.export.everything", one_export)
        patch.setattr("tfx_transformer.export.signatures.DRAFTED", 1 << 30)  # without drafts
        cli.main(arguments)
    assert ended.value.code == 0, where


def one_export(path, texts, **_):
    """Export and verify the file that the pages read: tests of the recipe have the others."""
    export.litert(path)
    return export.verify(path, texts)


def run_shell(code: str, folder: Path, where: str) -> None:
    """Run code in a shell, whose `tfx-transformer` and `python` are those of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, where + done.stdout + done.stderr


def test_every_block_runs(shown):
    for page in PAGES:
        languages = {block.language for block in blocks(page.read_text(encoding="utf-8"))}
        assert languages <= {"python", "bash"} and languages, page.name
    assert not [o for outputs in shown.values() for o in outputs if o.output_type == "error"]


def test_nothing_is_shown_in_red(shown):
    red = [
        output.text
        for outputs in shown.values()
        for output in outputs
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert not red, "\n".join(red)


@pytest.mark.parametrize("source", LOOKED_AT)
def test_what_is_looked_at_is_described_in_a_few_lines(shown, source):
    (output,) = (o for o in shown[source] if o.output_type == "execute_result")
    text = output.data["text/plain"]
    assert len(text.splitlines()) <= MOST_LINES and len(text) <= MOST_CHARACTERS, text


def test_a_picture_is_shown(shown):
    (output,) = shown[PICTURE]
    assert output.data["image/png"].startswith("iVBORw0KGgo")  # base64 of what a PNG begins with
    assert output.data["text/plain"] == "Picture(loss.png, 1,050 × 675 pixels)"


def test_blocks_are_found_where_they_stand():
    text = (
        "# Title\n\n```python\na = 1\nb = 2\n```\n\n```text\nnot code\n```\n\n"
        "<!-- not run -->\n```bash\nmake demo\n```\n\nthen\n\n```bash\necho\n```\n"
    )
    assert blocks(text) == [Block("python", 4, "a = 1\nb = 2\n"), Block("bash", 20, "echo\n")]


def test_the_japanese_page_shows_the_same():
    """The same blocks, tables of as many rows, and links to the same places, in the same order."""
    english, japanese = (page.read_text(encoding="utf-8") for page in (README, JAPANESE))
    code = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    comments = re.compile(r" *#.*")
    assert [comments.sub("", block) for block in code.findall(english)] == [
        comments.sub("", block) for block in code.findall(japanese)
    ]
    for pattern in (r"^#+ ", r"^\|", r"^- "):
        counts = [len(re.findall(pattern, text, re.MULTILINE)) for text in (english, japanese)]
        assert counts[0] == counts[1] > 0, pattern
    links = [re.findall(r"\]\(([^)]+)\)", text) for text in (english, japanese)]
    assert links[0][0] == JAPANESE.name and links[1][0] == README.name
    assert links[0][1:] == links[1][1:]


@pytest.mark.parametrize("page", [README, JAPANESE], ids=lambda page: page.name)
def test_both_pages_are_short(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 140
    assert max(len(line) for line in lines) <= 100


def test_links_lead_to_files():
    for page in (*PAGES, JAPANESE, *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
