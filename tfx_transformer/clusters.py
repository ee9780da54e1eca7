"""The hosts of a cluster, read from environment variables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

from tfx_transformer.errors import InputError

Environment = Mapping[str, str]

# Ports of the coordinator: that of JAX on a Cloud TPU; for a job of SLURM one of the highest ports,
# by the number of the job, so that two jobs on a node have different ones.
_TPU_PORT = 8482
_SLURM_PORTS = range(61_440, 65_536)


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The hosts of a run, as this one sees them.

    Attributes:
        count: number of hosts.
        index: index of this host, from 0.
        coordinator: "HOST:PORT" of host 0, where the others find each other.
    """

    count: int
    index: int
    coordinator: str


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A kind of cluster, and how to read its hosts from its variables; "" is unknown.

    Attributes:
        name: its name, for messages.
        count, index, coordinator: environment -> a number, a number, "HOST:PORT".
        variables: the variables that are read, for messages.
    """

    name: str
    count: Callable[[Environment], str]
    index: Callable[[Environment], str]
    coordinator: Callable[[Environment], str]
    variables: tuple[str, ...]


def find(environment: Environment) -> Hosts | None:
    """Return the hosts of the first cluster of `CLUSTERS` that has all variables, or None.

    Raises:
        InputError: a variable is not a number, or the index is not below the count.
    """
    for cluster in CLUSTERS:
        count, index = cluster.count(environment), cluster.index(environment)
        coordinator = cluster.coordinator(environment)
        if count and index and coordinator:
            return Hosts(*_numbers(cluster, count, index), coordinator)
    return None


def coordinator_of(environment: Environment) -> str:
    """Return "HOST:PORT" of host 0 from the first cluster that gives it, or ""."""
    found = (cluster.coordinator(environment) for cluster in CLUSTERS)
    return next(filter(None, found), "")


def index_of(environment: Environment) -> int | None:
    """Return the index of this host from the first cluster that gives it, or None.

    Raises:
        InputError: the variable is not a number.
    """
    for cluster in CLUSTERS:
        if index := cluster.index(environment):
            return _number(cluster, index)
    return None


def _numbers(cluster: Cluster, count: str, index: str) -> tuple[int, int]:
    hosts, host = _number(cluster, count), _number(cluster, index)
    if host >= hosts:
        raise InputError(
            f"{cluster.name}: host {host} of {hosts} hosts.\n"
            f"  Expected an index below the number of hosts: see {', '.join(cluster.variables)}."
        )
    return hosts, host


def _number(cluster: Cluster, text: str) -> int:
    if not _is_number(text):
        raise InputError(
            f"{cluster.name}: {text!r} is not a number of hosts or an index.\n"
            f"  Expected numbers in {', '.join(cluster.variables)}."
        )
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _variable(*names: str) -> Callable[[Environment], str]:
    """Return a function that returns the first of some variables that is set, or ""."""

    def read(environment: Environment) -> str:
        return next(filter(None, (environment.get(name, "") for name in names)), "")

    return read


def first_node(nodes: str) -> str:
    """Return the first name of a list of nodes of SLURM: "node007" of "node[007-009,12],login"."""
    first = re.split(r",(?![^\[]*\])", nodes, maxsplit=1)[0]
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first)


def _slurm_coordinator(environment: Environment) -> str:
    nodes = _variable("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")(environment)
    job = environment.get("SLURM_JOB_ID", "")
    if not nodes or not _is_number(job):
        return ""
    return f"{first_node(nodes)}:{_SLURM_PORTS[int(job) % len(_SLURM_PORTS)]}"


def _tpu_workers(environment: Environment) -> list[str]:
    return [name for name in environment.get("TPU_WORKER_HOSTNAMES", "").split(",") if name]


def _tpu_count(environment: Environment) -> str:
    workers, slices = len(_tpu_workers(environment)), environment.get("MEGASCALE_NUM_SLICES") or "1"
    return str(workers * int(slices)) if workers and _is_number(slices) else ""


def _tpu_index(environment: Environment) -> str:
    worker, part = environment.get("TPU_WORKER_ID", ""), environment.get("MEGASCALE_SLICE_ID")
    if not (_is_number(worker) and _is_number(part or "0")):
        return worker
    return str(int(worker) + int(part or 0) * len(_tpu_workers(environment)))


def _tpu_coordinator(environment: Environment) -> str:
    first = environment.get("MEGASCALE_COORDINATOR_ADDRESS") or "".join(
        _tpu_workers(environment)[:1]
    )
    return f"{first.partition(':')[0]}:{_TPU_PORT}" if first else ""


# A cluster is a row. Kubernetes gives a pod its index; the file of the JobSet sets the other two.
CLUSTERS = (
    Cluster(
        "SLURM",
        _variable("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        _variable("SLURM_PROCID"),
        _slurm_coordinator,
        ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID"),
    ),
    Cluster(
        "Cloud TPU",
        _tpu_count,
        _tpu_index,
        _tpu_coordinator,
        ("TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID", "MEGASCALE_NUM_SLICES", "MEGASCALE_SLICE_ID"),
    ),
    Cluster(
        "Kubernetes",
        _variable("JAX_PROCESS_COUNT"),
        _variable("JOB_COMPLETION_INDEX"),
        _variable("JAX_COORDINATOR_ADDRESS"),
        ("JAX_PROCESS_COUNT", "JOB_COMPLETION_INDEX", "JAX_COORDINATOR_ADDRESS"),
    ),
)
