"""The launch files of examples/scale: each is parsed, and the recipe takes its command."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tfx_transformer.cli.recipes import recipe_main
from tfx_transformer.flag_parser import make_parser, parse

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "scale"
FILES = ("pretraining.sbatch", "pretraining.sky.yaml", "pretraining.jobset.yaml")


def command_in(script):
    """Return the words of the only `tfx-transformer run` in a shell script."""
    (line,) = re.findall(r"tfx-transformer run .*", script.replace("\\\n", " "))
    return shlex.split(line)


def jobset():
    return yaml.safe_load((FOLDER / FILES[2]).read_text(encoding="utf-8"))


def commands():
    container = jobset()["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = container["containers"]
    sky = yaml.safe_load((FOLDER / FILES[1]).read_text(encoding="utf-8"))
    return [
        command_in((FOLDER / FILES[0]).read_text(encoding="utf-8")),
        command_in(sky["run"]),
        container["command"] + container["args"],
    ]


def test_each_file_is_here_and_says_that_it_was_not_run():
    found = sorted(path.name for path in FOLDER.iterdir())
    assert found == sorted(FILES)
    for name in FILES:
        assert "# Not run: " in (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no bash")
def test_bash_reads_the_scripts():
    sky = yaml.safe_load((FOLDER / FILES[1]).read_text(encoding="utf-8"))
    for script in ((FOLDER / FILES[0]).read_text(encoding="utf-8"), sky["setup"], sky["run"]):
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_three_run_the_same_command_which_the_recipe_takes():
    first, *others = commands()
    assert others == [first, first]
    assert first[:3] == ["tfx-transformer", "run", "pretraining"]
    main = recipe_main(first[2])
    parsed, _ = parse(main, make_parser(main, first[2]), first[3:])
    assert (str(parsed["tokens"]), parsed["context"], parsed["name"]) == ("tokens", 1_024, "mine")


def test_volumes_of_the_jobset_are_those_it_mounts():
    spec = jobset()["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    mounted = [mount["name"] for mount in spec["containers"][0]["volumeMounts"]]
    assert mounted == [volume["name"] for volume in spec["volumes"]]
    assert jobset()["kind"] == "JobSet"
