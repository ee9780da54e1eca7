"""`--hosts`: variables of clusters, what is refused, and trainings on several hosts that are those
on one."""

import json
import os

import pytest
from layouts import KINDS, LAYOUTS, selected
from on_jax import needs_jax, run_on_jax

from tfx_transformer import clusters, devices, flags
from tfx_transformer.clusters import Hosts
from tfx_transformer.devices import Devices
from tfx_transformer.errors import InputError
from tfx_transformer.flag_parser import FlagParser, add_group
from tfx_transformer.training import hosts


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
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert Devices(hosts="all", coordinator="n:1").place == Hosts(1, 0, "")
    monkeypatch.setenv("SLURM_PROCID", "3")
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


def test_each_flag_has_help():
    parser = FlagParser()
    add_group(parser, Devices)
    for action in parser._actions:
        assert action.help and action.help[0].isupper() or "-h" in action.option_strings


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


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SystemExit(143), 143, ""),
        (SystemExit(), 0, ""),
        (SystemExit("no"), 1, "no"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt"),
        (ValueError("a fault"), 1, "ValueError: a fault"),
    ],
)
def test_a_host_that_ends_does_not_wait_for_others(monkeypatch, capsys, error, status, said):
    """Errors come through `flags.run` only with --debug."""

    class Exited(BaseException):
        pass

    def main():
        """A recipe."""
        raise error

    def leave(status):
        raise Exited(status)

    monkeypatch.setattr(hosts, "_joined", True)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(devices, "leave_early", hosts._leave_early)
    with pytest.raises(Exited) as caught:
        flags.run(main, ["--debug"])
    assert int(caught.value.args[0]) == status
    printed = capsys.readouterr().err.strip()
    assert said in printed and bool(printed) == bool(said)


def test_hosts_have_the_same_number_of_devices():
    hosts.check_devices([0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match="JAX finds 3 devices on host 1 and 2 on host 0"):
        hosts.check_devices([0, 0, 1, 1, 1])


def test_a_lost_host_is_reported_once(monkeypatch):
    monkeypatch.setattr(hosts, "count", lambda: 2)
    with pytest.raises(hosts.HostLost) as caught, hosts.not_alone(), hosts.not_alone():
        raise RuntimeError("Gloo all-reduce failed: connection closed\nmore")
    first = str(caught.value).splitlines()[0]
    assert first.startswith("another host of the run has ended or cannot be reached: Gloo all-")
    with pytest.raises(InputError, match=r"^coordination.csv") as caught, hosts.not_alone():
        raise InputError("coordination.csv: there is no such file.")
    assert not isinstance(caught.value, hosts.HostLost)


def test_a_command_selects_rows_of_the_table_of_layouts(capsys):
    assert selected([]) == (KINDS, list(LAYOUTS))
    found = selected(["--training", "lora", "--training", "texts", "--layout", "4 processes"])
    assert found == (["lora", "texts"], ["4 processes"])
    with pytest.raises(SystemExit):
        selected(["--training", "WRONG"])
    error = capsys.readouterr().err
    assert all(name in error for name in ("WRONG", *KINDS))


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("packed", [(2, 1, 1), (4, 1, 1), (2, 4, 1), (2, 4, 2)]),
        ("own rows", [(2, 1, 1), (4, 1, 1)]),
        ("lora", [(2, 1, 1), (2, 2, 2)]),
        ("lora in 4 bits", [(2, 2, 2)]),
        ("images", [(2, 1, 1), (2, 4, 2)]),
        ("texts", [(2, 1, 1)]),
        ("in parts", [(2, 1, 1)]),
        ("in chunks", [(2, 2, 1)]),
        ("a batch without a finite gradient", [(2, 1, 1)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_losses_are_those_of_one_host(tmp_path, kind, places):
    """places: hosts, devices of a host, and parts of the weights."""
    run_on_jax(
        """
        import json
        import sys
        from pathlib import Path
        import numpy as np
        from divided_runs import on_hosts, train

        kind, folder, places = sys.argv[1:]

        def train_on(*place):
            own = Path(folder, *map(str, place))
            hosts, found = place[0], on_hosts(lambda index: train(kind, own), *place)
            assert [one.status for one in found] == [0] * hosts, found
            return [one.result for one in found]

        (alone,) = train_on(1)
        for hosts, devices, parts in json.loads(places):
            found = train_on(hosts, devices, parts)
            for one in found:
                assert one["devices"] == devices
                assert set(one["divided"].values()) == ({1 / parts} if parts > 1 else set())
                assert one["weights"] == found[0]["weights"]  # to the bit
                for name in ("losses", "validation", "answer"):
                    np.testing.assert_allclose(one[name], alone[name], rtol=1e-5, atol=1e-5)
            for epoch in range(4):  # each example is given once, by one host
                steps = [one["read"][5 * epoch : 5 * epoch + 5] for one in found]
                given = [row for step in sum(steps, []) for row in step if np.any(row)]
                assert sorted(given) == sorted(alone["labels"])
        """,
        kind,
        str(tmp_path),
        json.dumps(places),
    )


@needs_jax
@pytest.mark.slow
def test_hosts_end_together_and_go_on_to_the_same_end(tmp_path):
    """SIGKILL of host 0 and of host 1, SIGTERM and SIGINT of one of them."""
    run_on_jax(
        """
        import os
        import sys
        from pathlib import Path
        import numpy as np
        from divided_runs import At, on_hosts, train

        def whole(folder, hosts=2):
            found = on_hosts(lambda index: train("packed", folder), hosts)
            assert [one.status for one in found] == [0] * hosts, found
            return found[0]

        def interrupted(folder, who, number):
            def work(index):
                stop = [At(7, lambda: os.kill(os.getpid(), number))] if index == who else []
                train("packed", folder, stop, save_minutes=1e-9)

            return on_hosts(work, 2)

        straight = whole(Path(sys.argv[1], "straight")).result
        for who, number in ((0, 9), (1, 9), (1, 15), (0, 2)):
            folder = Path(sys.argv[1], f"{who} {number}")
            ended = interrupted(folder, who, number)
            steps = sorted(path.name for path in folder.glob("step_*"))
            if number == 9:
                assert ended[who].status == -9 and ended[1 - who].status != 0, ended
                assert max(steps) in ("step_6", "step_7"), steps
            else:
                assert [one.status for one in ended] == [128 + number] * 2, ended
                assert steps == ["step_6", "step_7"]
                assert "Ended by" in ended[0].output and "Ended by" not in ended[1].output
            again = whole(folder).result
            assert again["weights"] == straight["weights"]
            assert again["validation"] == straight["validation"]

        folder = Path(sys.argv[1], "on one host")
        interrupted(folder, 0, 15)
        other = whole(folder, hosts=1)
        assert "It was on 2 devices of 2 hosts and is now on 1 device: each" in other.output
        np.testing.assert_allclose(
            other.result["validation"], straight["validation"], rtol=1e-5
        )
        """,
        str(tmp_path),
    )


@needs_jax
@pytest.mark.slow
def test_devices_get_batches_in_their_order_and_hosts_agree():
    """Of 3 hosts with 2 devices each: arrays of a batch may have different numbers of rows."""
    run_on_jax(
        """
        import numpy as np
        from divided_runs import on_hosts
        from tfx_transformer.errors import InputError
        from tfx_transformer.training import distribution, hosts

        texts = np.arange(24 * 5, dtype="int32").reshape(24, 5)

        def work(index):
            distribution.begin()
            division = distribution.Division(12)
            batch = {"a": texts, "b": texts[:12]}, texts[:7, 0], None
            (inputs, labels, nothing), found = division.divide(batch), []
            for array in (inputs["a"], inputs["b"], labels):
                found.append([np.asarray(s.data).tolist() for s in array.addressable_shards])
            try:
                hosts.check_alike({"data": [1], "weights": bytes(index)})
            except InputError as error:
                print(error)
            assert nothing is None and hosts.largest(index) == 2 and hosts.first(7 - index) == 7
            hosts.leave()
            return found

        ended = on_hosts(work, 3, 2)
        assert [one.status for one in ended] == [0] * 3, ended
        for index, one in enumerate(ended):
            a, b, labels = one.result
            assert a == [texts[4 * d : 4 * d + 4].tolist() for d in (2 * index, 2 * index + 1)]
            assert b == [texts[2 * d : 2 * d + 2].tolist() for d in (2 * index, 2 * index + 1)]
            assert labels == [texts[:7, 0].tolist()] * 2
            assert "host 1 has other weights than host 0." in one.output
        """
    )
