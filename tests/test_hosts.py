"""`--hosts`: variables of clusters, what is refused, and trainings on several hosts that are those
on one."""

import json

import numpy as np
import pytest
from on_jax import needs_jax, run_hosts, start_hosts

from tfx_transformer import clusters, devices, flags
from tfx_transformer.clusters import Hosts
from tfx_transformer.devices import Devices
from tfx_transformer.errors import InputError


@pytest.fixture(autouse=True)
def on_jax(monkeypatch):
    """Keras seems to be on JAX, and this process on no cluster."""
    for cluster in clusters.CLUSTERS:
        for name in cluster.variables:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


SLURM = {
    "SLURM_JOB_ID": "8195",  # 2 * 4096 + 3
    "SLURM_STEP_NODELIST": "gpu[007-009,12],login",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_NTASKS": "11",
    "SLURM_PROCID": "3",
}
TPU = {"TPU_WORKER_HOSTNAMES": "t1k-0.svc,t1k-1.svc,t1k-2.svc", "TPU_WORKER_ID": "2"}
SLICES = {
    "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
    "MEGASCALE_COORDINATOR_ADDRESS": "mine-slice-0-0.mine:8081",
}
JOBSET = {
    "JAX_PROCESS_COUNT": "7",
    "JAX_COORDINATOR_ADDRESS": "mine-worker-0-0.mine:8476",
    "JOB_COMPLETION_INDEX": "0",
}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (SLURM, Hosts(5, 3, "gpu007:61443")),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": ""}, Hosts(11, 3, "gpu007:61443")),
        (TPU, Hosts(3, 2, "t1k-0.svc:8482")),
        (TPU | SLICES, Hosts(6, 5, "mine-slice-0-0.mine:8482")),
        (JOBSET, Hosts(7, 0, "mine-worker-0-0.mine:8476")),
        (TPU | {"JOB_COMPLETION_INDEX": "2"}, Hosts(3, 2, "t1k-0.svc:8482")),
        ({"JOB_COMPLETION_INDEX": "2"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, None),
        ({}, None),
    ],
)
def test_clusters_say_which_host_this_is(variables, expected):
    assert clusters.find(variables) == expected


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("a,b", "a"),
        ("node[001-015],host2", "node001"),
        ("node[3,007-015]", "node3"),
        ("rack[2-4]-gpu[0-7],x", "rack2-gpu0"),
    ],
)
def test_first_node_of_a_list_of_slurm(nodes, first):
    assert clusters.first_node(nodes) == first


@pytest.mark.parametrize(
    "variables",
    [{**SLURM, "SLURM_PROCID": "x"}, {**SLURM, "SLURM_PROCID": "5"}, {**TPU, "TPU_WORKER_ID": "³"}],
)
def test_wrong_variables_are_named(variables):
    with pytest.raises(InputError, match="SLURM_PROCID|TPU_WORKER_ID"):
        clusters.find(variables)


def test_flags_go_before_variables(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert Devices(hosts="all").place == Hosts(5, 3, "gpu007:61443")
    assert Devices(hosts="2", host_index=1).place == Hosts(2, 1, "gpu007:61443")
    assert Devices(hosts="all", coordinator="n:1").place == Hosts(5, 3, "n:1")
    assert Devices().place == Hosts(1, 0, "")  # without --hosts a job has one
    with pytest.raises(InputError, match="--host-index is 3, and --hosts is 3"):
        Devices(hosts="3")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hosts": "0"}, "--hosts is '0'"),
        ({"hosts": "two"}, "--hosts is 'two'"),
        ({"hosts": "all"}, "no variables of SLURM, Kubernetes or Cloud TPU"),
        ({"hosts": "2"}, "--coordinator is missing.\n  Pass --coordinator HOST:PORT"),
        ({"hosts": "2", "coordinator": "a:1"}, "--host-index is missing.\n  Pass --host-index I"),
        ({"hosts": "2", "coordinator": "a:1", "host_index": 2}, "from 0 to 1"),
        ({"hosts": "2", "coordinator": "a:1", "host_index": -1}, "from 0 to 1"),
        ({"hosts": "2", "coordinator": "a", "host_index": 0}, "free port"),
        ({"hosts": "2", "coordinator": "a:0", "host_index": 0}, "free port"),
        ({"hosts": "2", "coordinator": "a:65536", "host_index": 0}, "free port"),
        ({"hosts": "2", "coordinator": "http://a:80", "host_index": 0}, "free port"),
        ({"host_index": 1}, "--hosts is 1.\n  Pass --hosts N too"),
        ({"coordinator": "a:1"}, "--hosts is 1.\n  Pass --hosts N too"),
    ],
)
def test_refusals(given, said):
    with pytest.raises(InputError) as caught:
        Devices(**given)
    assert said in str(caught.value)


def test_addresses():
    for text in ("node-1.cluster:8476", "10.0.0.1:65535", "[::1]:8476"):
        assert Devices(hosts="2", coordinator=text, host_index=1).place.coordinator == text


def test_several_hosts_need_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(InputError, match="--hosts 2 needs Keras on JAX, and it is on tensorflow"):
        Devices(hosts="2")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_other_hosts_print_one_line(monkeypatch, capsys, more):
    def main(epochs: int = 3):
        """A recipe."""
        print("a line of the training")
        raise devices.Followed(devices.in_use().place)

    monkeypatch.setattr(flags, "hush", lambda: None)
    monkeypatch.setattr(devices, "_chosen", Devices())
    with pytest.raises(SystemExit) as stop:
        flags.run(main, ["--hosts", "3", "--coordinator", "a:1", "--host-index", "1", *more])
    written = capsys.readouterr()
    line = "Host 1 of 3 trains too; host 0 prints and writes.\n"
    assert stop.value.code == 0
    if more:
        assert (json.loads(written.out), written.err) == ({"host": 1, "hosts": 3}, line)
    else:
        assert (written.out, written.err) == (line, "")


def test_other_hosts_report_errors(monkeypatch, capsys):
    def main(epochs: int = 3):
        """A recipe."""
        raise InputError("my.csv: there is no such file.")

    monkeypatch.setattr(flags, "hush", lambda: None)
    monkeypatch.setattr(devices, "_chosen", Devices())
    with pytest.raises(SystemExit) as stop:
        flags.run(main, ["--hosts", "3", "--coordinator", "a:1", "--host-index", "2"])
    assert (stop.value.code, capsys.readouterr().err) == (2, "my.csv: there is no such file.\n")


TRAIN = """
from pathlib import Path
from divided_runs import At, say, train

folder, *kinds = arguments
for kind in kinds:
    say(train(kind, Path(folder, kind)))
"""


def results(outputs):
    """The printed results of each host, without what libraries print."""
    lines = [[line for line in output.splitlines() if line[:1] == "{"] for output in outputs]
    return [list(map(json.loads, several)) for several in lines]


@needs_jax
@pytest.mark.slow(but=["two"])
@pytest.mark.parametrize(
    ("hosts", "devices", "kinds"),
    [
        pytest.param(2, 1, ["packed"], id="two"),
        pytest.param(2, 1, ["lora", "in parts", "a batch without a finite gradient"], id="kinds"),
        pytest.param(4, 1, ["packed", "lora"], id="four"),
        pytest.param(2, 4, ["packed", "lora"], id="two of four devices"),
    ],
)
def test_losses_are_those_of_one_host(tmp_path, hosts, devices, kinds):
    (one,) = results(run_hosts(TRAIN, str(tmp_path / "one"), *kinds, hosts=1))
    several = run_hosts(TRAIN, str(tmp_path / "several"), *kinds, hosts=hosts, devices=devices)
    found = results(several)
    assert len(found) == hosts and len(one) == len(kinds)
    for index, alone in enumerate(one):
        each = [results[index] for results in found]
        for name in ("losses", "validation", "answer"):
            for other in each:
                np.testing.assert_allclose(other[name], alone[name], rtol=1e-5, atol=1e-5)
        for other in each[1:]:  # to the bit
            assert other["weights"] == each[0]["weights"]
        assert each[0]["devices"] == devices
        for epoch in range(4):  # each text is given once, by one host
            steps = [found["read"][5 * epoch : 5 * epoch + 5] for found in each]
            given = [row for step in sum(steps, []) for row in step]
            assert sorted(given) == sorted(alone["texts"])


INTERRUPTED = """
import os
import signal
from pathlib import Path
from divided_runs import At, say, train

folder, kind, who, number = arguments
extra = [At(7, lambda: os.kill(os.getpid(), int(number)))]
train(kind, Path(folder), extra if here["host_index"] == int(who) else [], save_minutes=1e-9)
raise AssertionError("it was not interrupted")
"""


def end_of(processes):
    """The exit status and the errors of each process."""
    outputs = [process.communicate(timeout=400) for process in processes]
    codes = [process.returncode for process in processes]
    return codes, [errors for _, errors in outputs]


@needs_jax
@pytest.mark.slow
def test_hosts_end_together_and_go_on_to_the_same_end(tmp_path):
    """SIGKILL of host 0 and of host 1, SIGTERM and SIGINT of one of them."""
    kind = "packed"
    straight = results(run_hosts(TRAIN, str(tmp_path / "straight"), kind, hosts=2))[0][0]
    for who, number in ((0, 9), (1, 9), (1, 15), (0, 2)):
        folder = tmp_path / f"{who} {number}"
        arguments = (str(folder / kind), kind, str(who), str(number))
        codes, errors = end_of(start_hosts(INTERRUPTED, *arguments, hosts=2))
        steps = sorted(path.name for path in (folder / kind).glob("step_*"))
        if number == 9:
            assert codes[who] == -9 and codes[1 - who] != 0
            assert max(steps) in ("step_6", "step_7")
        else:
            assert codes == [128 + number] * 2, errors
            assert steps == ["step_6", "step_7"]
            assert "Ended by" in errors[0] and "Ended by" not in errors[1]
        (again, _) = results(run_hosts(TRAIN, str(folder), kind, hosts=2))
        assert again[0]["weights"] == straight["weights"]
        assert again[0]["validation"] == straight["validation"]


@needs_jax
@pytest.mark.slow
def test_goes_on_with_other_hosts_and_says_so(tmp_path):
    kind = "packed"
    (one,) = results(run_hosts(TRAIN, str(tmp_path / "straight"), kind, hosts=1))
    arguments = (str(tmp_path / kind), kind, "0", "15")
    codes, errors = end_of(start_hosts(INTERRUPTED, *arguments, hosts=2))
    assert codes == [143, 143], errors
    (output,) = run_hosts(TRAIN, str(tmp_path), kind, hosts=1)
    assert "It was on 2 devices of 2 hosts and is now on 1 device: each batch has" in output
    ((found,),) = results([output])
    np.testing.assert_allclose(found["validation"], one[0]["validation"], rtol=1e-5)


@needs_jax
@pytest.mark.slow
def test_hosts_with_other_data_are_refused(tmp_path):
    program = """
    from pathlib import Path
    from tfx_transformer.errors import InputError
    from tfx_transformer.training import hosts

    hosts.join()
    try:
        hosts.check_alike({"data": [1], "weights": bytes(here["host_index"])})
    except InputError as error:
        print(error)
    hosts.leave()
    """
    for output in run_hosts(program, hosts=3):
        assert "host 1 has other weights than host 0." in output
