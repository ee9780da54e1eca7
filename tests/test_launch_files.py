"""The launch files of examples/scale: each is parsed, and the recipe takes its command."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tfx_transformer.cli.recipes import recipe_main
from tfx_transformer.clusters import Hosts
from tfx_transformer.devices import Devices
from tfx_transformer.flag_parser import add_group, group_of, make_parser, parse

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "scale"
FILES = ("pretraining.sbatch", "pretraining.sky.yaml", "pretraining.jobset.yaml")
# The same for several hosts.
HOSTS = (
    "pretraining.hosts.sbatch",
    "pretraining.hosts.jobset.yaml",
    "pretraining.hosts.sky.yaml",
)


def command_in(script):
    """Return the words of the only `tfx-transformer run` in a shell script."""
    (line,) = re.findall(r"tfx-transformer run .*", script.replace("\\\n", " "))
    return shlex.split(line)


def jobset(name=FILES[2]):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def container_of(file):
    spec = file["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return container


def commands():
    container = container_of(jobset())
    sky = yaml.safe_load((FOLDER / FILES[1]).read_text(encoding="utf-8"))
    return [
        command_in((FOLDER / FILES[0]).read_text(encoding="utf-8")),
        command_in(sky["run"]),
        container["command"] + container["args"],
    ]


def test_each_file_is_here_and_says_that_it_was_not_run():
    found = sorted(path.name for path in FOLDER.iterdir())
    assert found == sorted(FILES + HOSTS)
    for name in found:
        assert "# Not run: " in (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no bash")
def test_bash_reads_the_scripts():
    skies = [yaml.safe_load((FOLDER / name).read_text("utf-8")) for name in (FILES[1], HOSTS[2])]
    files = [(FOLDER / name).read_text(encoding="utf-8") for name in (FILES[0], HOSTS[0])]
    for script in (*files, *(sky[name] for sky in skies for name in ("setup", "run"))):
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_three_run_the_same_command_which_the_recipe_takes():
    first, *others = commands()
    assert others == [first, first]
    assert first[:3] == ["tfx-transformer", "run", "pretraining"]
    main = recipe_main(first[2])
    parsed, _ = parse(main, make_parser(main, first[2]), first[3:])
    assert (str(parsed["tokens"]), parsed["context"], parsed["name"]) == ("tokens", 1_024, "mine")


@pytest.mark.parametrize("name", [FILES[2], HOSTS[1]])
def test_volumes_of_the_jobset_are_those_it_mounts(name):
    spec = jobset(name)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    mounted = [mount["name"] for mount in spec["containers"][0]["volumeMounts"]]
    assert mounted == [volume["name"] for volume in spec["volumes"]]
    assert jobset(name)["kind"] == "JobSet"


def test_the_files_for_hosts_run_the_same_command_on_all_of_them(monkeypatch):
    container = container_of(jobset(HOSTS[1]))
    command = command_in((FOLDER / HOSTS[0]).read_text(encoding="utf-8"))
    assert container["command"] + container["args"] == command
    main = recipe_main(command[2])
    parser = make_parser(main, command[2])
    add_group(parser, Devices)
    settings, parsed = parse(main, parser, command[3:])
    assert settings["name"] == "mine"
    job = jobset(HOSTS[1])["spec"]["replicatedJobs"][0]
    variables = {one["name"]: one["value"] for one in container["env"]}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    place = group_of(Devices, parsed).place
    count = job["template"]["spec"]["completions"]
    (port,) = container["ports"]
    # As JobSet names the first pod, "<set>-<job>-0-0.<set>".
    name = jobset(HOSTS[1])["metadata"]["name"]
    first = f"{name}-{job['name']}-0-0.{name}"
    assert place == Hosts(count, 3, f"{first}:{port['containerPort']}")
    devices = container["resources"]["limits"]["nvidia.com/gpu"]
    assert settings["batch_size"] % (count * devices) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no bash")
def test_skypilot_runs_that_command_on_each_machine_with_its_own_index(tmp_path, monkeypatch):
    sky = yaml.safe_load((FOLDER / HOSTS[2]).read_text("utf-8"))
    slurm = command_in((FOLDER / HOSTS[0]).read_text("utf-8"))
    printed = tmp_path / "tfx-transformer"
    printed.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', "utf-8")
    printed.chmod(0o755)
    # As SkyPilot sets them: addresses by rank, one a line.
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.5\n10.0.0.6\n10.0.0.11",
        "SKYPILOT_NUM_NODES": str(sky["num_nodes"]),
        "SKYPILOT_NODE_RANK": "2",
    }
    script = sky["run"].replace("cd /work\n", "")
    done = subprocess.run(["bash", "-c", script], env=variables, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.splitlines()
    at = slurm.index("--hosts")
    assert words[: at - 1] == slurm[1:at]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    main = recipe_main(words[1])
    parser = make_parser(main, words[1])
    add_group(parser, Devices)
    _, parsed = parse(main, parser, words[2:])
    assert group_of(Devices, parsed).place == Hosts(4, 2, "10.0.0.7:8476")
    assert sky["resources"]["accelerators"] == "H100:8" and parsed.devices == "all"


def test_slurm_starts_one_process_on_each_node():
    script = (FOLDER / HOSTS[0]).read_text(encoding="utf-8")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", script, re.MULTILINE))
    assert (options["nodes"], options["ntasks-per-node"], options["gres"]) == ("4", "1", "gpu:8")
    assert options["signal"] == "TERM@300"
