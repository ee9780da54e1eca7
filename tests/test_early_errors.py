"""Mistakes in flags, files and columns are reported before TensorFlow is imported, and messages
name only flags of the command that ended."""

import argparse
import json
import re
import subprocess
import sys

import pytest

from tfx_transformer import devices
from tfx_transformer.cli import parser
from tfx_transformer.cli.recipes import recipe_main
from tfx_transformer.flag_parser import add_group, make_parser
from tfx_transformer.flags import add_common_flags, add_language_flag

# Runs commands one after the other: [[name, arguments…], …] -> what each of them ended with.
RUNNER = """
import contextlib, io, json, sys, time
from tfx_transformer import cli, flags
flags.hush = lambda: None
results = {}
for name, *arguments in json.load(open("cases.json")):
    said, begin = io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main(arguments)
        except SystemExit as stop:
            status = stop.code
    loaded = sorted({"keras", "tensorflow"} & sys.modules.keys())
    results[name] = [status, said.getvalue(), time.monotonic() - begin, loaded]
    if loaded:
        break
json.dump(results, open("results.json", "w"))
"""

# What each recipe reads: the flag of its data, a good table, and a flag of a column.
RECIPES = {
    "text_classification": ("csv", "text,label\na cat,x\na dog,y\na bird,x\na cow,y\n", "text"),
    "embedding": ("csv", "source,target\na,b\nc,d\ne,f\n", "first"),
    "translation": ("csv", "source,target\na,b\nc,d\ne,f\n", "source"),
    "instruction_finetuning": ("csv", "instruction,output\na,b\nc,d\ne,f\n", "output"),
    "image_classification": ("images", "path,label\na.png,x\nb.png,y\n", "path"),
    "tagging": (
        "data",
        "text,spans\n"
        + "".join(f'{name} is here,"[[0, 3, ""P""]]"\n' for name in ("Ann", "Bob", "Eve", "Kim")),
        "text",
    ),
    "pretraining": ("text", "text\nsome words\nmore words\n", "column"),
    "text_regression": ("csv", "text,target\na,1\nb,2\nc,3\nd,4\n", "target"),
    "tool_calling": (
        "csv",
        "utterance,tool,arguments\n" + "".join(f'{a},stop,"{{}}"\n' for a in "abcd"),
        "utterance",
    ),
    "preference_finetuning": ("csv", "prompt,chosen,rejected\na,b,c\nd,e,f\ng,h,i\n", "chosen"),
}
# Flags that every recipe refuses, and what it says.
REFUSED = {
    "unknown flag": (["--epoch=3"], "--epoch"),
    "not a number": (["--batch-size=many"], "many"),
    "no batch": (["--batch-size=0"], "batch_size is 0"),
    "no rate": (["--learning-rate=0"], "learning_rate is 0.0"),
    "no patience": (["--patience=0"], "patience is 0"),
    "negative time": (["--minutes=-1"], "minutes is -1.0"),
    "share above one": (["--share=1.5"], "1.5"),
    "nothing dropped": (["--dropout=2"], "2.0"),
    "size": (["--size=huge"], "huge"),
    "precision": (["--precision=float8"], "float8"),
    "no folder": (["--base=nowhere"], "nowhere"),
    "no repository": (["--base=hf://"], "hf:// names no model"),
    "a table": (["--base=good.csv"], "good.csv"),
    "a path": (["--name=a/b"], "a/b"),
    "there already": (["--name=there"], "exists already"),
    "interrupted": (["--name=halted", "--batch-size=4"], "--batch-size was 3 and is 4"),
    "logger": (["--log=wandb"], "pip install wandb"),
    "language": (["--language=fr"], "fr"),
    "nothing frozen": (["--base-dtype=nf4"], "base-dtype"),
    "no int4 file": (
        ["--quantization-aware=int4"],
        "--quantization-aware is int4, but no int4 file is exported.\n  Add --quantize int4, or",
    ),
    "nothing rounded": (
        ["--quantization-epochs=2"],
        "--quantization-epochs is 2, but there is no --quantization-aware.\n  Add --quantization",
    ),
    "no epochs": (
        ["--quantization-aware=int8", "--quantization-epochs=0"],
        "quantization_epochs is 0.\n",
    ),
}
# Flags of some recipes.
MORE = {
    "embedding": [
        (
            ["--base=labeller", "--case=kept"],
            "--case is kept, but the tokenizer of --base says how it reads.\n"
            "  Begin a new model, or leave out --case.",
        )
    ],
    "text_classification": [
        (["--teacher=nowhere"], "nowhere is not a bundle"),
        (["--teacher=writer"], "of task 'causal'.\n  Expected a model of task 'classification'"),
        (["--unlabelled=good.csv"], "there is no --teacher to answer its texts"),
        (["--base=pictures"], "pictures reads images, not texts"),
        (
            ["--quantization-aware=int4", "--quantize=int4", "--width=80"],
            "hidden_dim is 80, which cannot be quantized to int4.\n",
        ),
        (
            ["--quantization-aware=int8", "--method=lora"],
            "--quantization-aware is int8, but --method lora trains adapters, which are not",
        ),
    ],
    "image_classification": [
        (["--base=writer"], "writer reads texts, not images"),
        (["--teacher=labeller"], "the teacher labeller reads texts, not images"),
        (["--unlabelled=good.csv"], "there is no --teacher to answer its images"),
        (["--linear-cells=0", "--linear-patches=9"], "no linear classifier with --linear-cells 0"),
    ],
    "instruction_finetuning": [
        (["--base=labeller"], "task is 'classification'.\n  Expected a"),
        (["--teacher=labeller"], "Expected a model of task 'causal'"),
        (["--teacher=plain"], "the teacher plain has no chat template"),
    ],
    "tagging": [
        (["--teacher=labeller"], "Expected a model of task 'tagging'"),
        (["--teacher=marker"], "the teacher marker has no tag 'I-P'"),
    ],
    "text_regression": [(["--teacher=labeller"], "Expected a model of task 'regression'")],
    "preference_finetuning": [
        (["--base="], "--base is empty"),
        (["--base=labeller"], "Expected a bundle of task 'causal'"),
        (["--base=writer", "--rehearse=good.csv"], "there is no column 'instruction'"),
    ],
    "tool_calling": [
        (["--base=labeller"], "Expected a bundle of task 'causal'"),
        (["--tools=good.csv"], "good.csv: it is not JSON"),
    ],
    "translation": [
        (["--base=writer"], "Expected a bundle of task 'seq2seq'"),
        (["--base=labeller", "--decoder-only"], "Expected a bundle of task 'causal'"),
    ],
}
BUNDLES = {
    "writer": {"task": "causal", "architecture": {}},
    "labeller": {"task": "classification", "architecture": {}},
    "pictures": {"task": "classification", "architecture": {"image_size": 32}},
    "plain": {"task": "causal", "architecture": {}, "chat": False},
    "marker": {"task": "tagging", "architecture": {}, "labels": ["O", "B-P"]},
}
# Verbs: arguments, and what they say. Few have all flags of reading that a recipe has.
VERBS = [
    (
        ["export", "pictures", "--check=good.csv", "--column=nme"],
        "read: --column NAME (column=...).",
    ),
    (
        ["export", "pictures", "--check=good.csv", "--column=text"],
        "row 2: a: there is no such file",
    ),
    (["export", "writer", "--check=late.csv", "--column=text"], "Fix the row.\n"),
    (["generate", "writer", "--csv=late.csv", "--column=text"], "Fix the row.\n"),
    (["tokens", "--csv=ragged.csv"], "or pass --skip-bad-rows"),
    (["tokens", "--csv=unclear.csv"], "--table-encoding cp932"),
    (["plan", "--base=pictures"], "a model of images cannot be planned"),
    (["plan", "--base=vit"], "of images cannot be planned"),
    (["plan", "--base=t5"], "of the task 'seq2seq' cannot be planned"),
]
CHECKPOINTS = {
    "vit": {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 24,
        "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 32,
        "image_size": 32, "patch_size": 8, "num_channels": 3, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    },
    "t5": {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 300,
        "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 3,
        "relative_attention_num_buckets": 8, "feed_forward_proj": "relu",
    },
}  # fmt: skip
# Of a recipe that trains a model further.
NO_NEW_MODEL = ("size", "nothing dropped")
TOOLS = [{"type": "function", "function": {"name": "stop", "parameters": {"type": "object"}}}]


def cases_of(recipe):
    data, _, column = RECIPES[recipe]
    run = ["run", recipe]
    good = f"--{data}={recipe}.csv"
    yield ["missing file", *run, f"--{data}=missing.csv", *_columns(recipe)], "missing.csv"
    yield ["empty file", *run, f"--{data}=empty.csv", *_columns(recipe)], "empty.csv"
    yield ["only a header", *run, f"--{data}=header.csv", *_columns(recipe)], "header.csv"
    yield ["wrong column", *run, good, *_columns(recipe), f"--{column}=nme"], "nme"
    if recipe == "pretraining":  # every row is read, not only the first ones
        late = [*run, "--text=late.csv", "--column=text"]
        yield ["late bad row", *late], "late.csv, row 2002"
        yield ["late bad row of held-out texts", *run, good, "--column=text",
               "--validation=late.csv"], "late.csv, row 2002"  # fmt: skip
    for name, (flags, said) in REFUSED.items():
        if recipe != "preference_finetuning" or name not in NO_NEW_MODEL:
            yield [name, *run, good, *_columns(recipe), *flags], said
    for flags, said in MORE.get(recipe, ()):
        yield [" ".join(flags), *run, good, *flags], said


def _columns(recipe):
    if recipe == "preference_finetuning":
        return ["--base=writer"]
    return ["--column=text"] if recipe == "pretraining" else []


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What every case ended with; all in one process, which stops when Keras is imported."""
    folder = tmp_path_factory.mktemp("early")
    cases = []
    cases += [[" ".join(arguments), *arguments] for arguments, _ in VERBS]
    for recipe, (_, table, _) in RECIPES.items():
        (folder / f"{recipe}.csv").write_text(table, "utf-8")
        cases += [[f"{recipe}: {case[0]}", *case[1:]] for case, _ in cases_of(recipe)]
    (folder / "good.csv").write_text("text,label\na,b\n", "utf-8")
    late = "text,note\n" + "some words,x\n" * 2000 + ",x\nmore words,x\n"
    (folder / "late.csv").write_text(late, "utf-8")
    (folder / "empty.csv").write_text("", "utf-8")
    (folder / "ragged.csv").write_text("text,note\na,b,c\n", "utf-8")
    (folder / "unclear.csv").write_bytes("text,note\n東京都,大阪府\n".encode("cp932"))
    header = "text,label,source,target,instruction,output,path,utterance,tool,arguments"
    header += ",prompt,chosen,rejected\n"
    (folder / "header.csv").write_text(header, "utf-8")
    (folder / "tools.json").write_text(json.dumps(TOOLS), "utf-8")
    for name, values in BUNDLES.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(values | {"format": 1}), "utf-8")
    for name, values in CHECKPOINTS.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(values), "utf-8")
    (folder / "saved_models" / "there").mkdir(parents=True)
    step = folder / "runs" / "halted" / "checkpoints" / "step_7"
    step.mkdir(parents=True)
    settings = {"batch_size": 3}
    (step / "config.json").write_text(json.dumps({"settings": settings, "files": {}}), "utf-8")
    (folder / "cases.json").write_text(json.dumps(cases), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text("utf-8"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_mistakes_are_reported_before_tensorflow_starts(ended, recipe):
    for (name, *_), said in cases_of(recipe):
        status, text, _, loaded = ended[f"{recipe}: {name}"]
        assert status == 2, (name, text)
        assert said in text, (name, text)
        assert "fault of the program" not in text, (name, text)
        assert not loaded, f"{name}: {loaded} imported before {text!r}"


def flags_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


@pytest.mark.parametrize("recipe", RECIPES)
def test_messages_of_a_recipe_name_its_flags(ended, recipe):
    made = make_parser(recipe_main(recipe), "run")
    add_group(made, devices.Devices)
    add_common_flags(made)
    add_language_flag(made)
    for (name, *arguments), _ in cases_of(recipe):
        text = ended[f"{recipe}: {name}"][1]
        assert flags_in(text) <= {*made.flags(), *flags_in(" ".join(arguments))}, text


@pytest.mark.parametrize(("arguments", "said"), VERBS)
def test_messages_of_a_verb_name_its_flags(ended, arguments, said):
    status, text, _, loaded = ended[" ".join(arguments)]
    assert (status, loaded) == (2, []) and said in text, text
    (verbs,) = (x for x in parser()._actions if isinstance(x, argparse._SubParsersAction))
    assert flags_in(text) <= set(verbs.choices[arguments[0]].flags()), text
