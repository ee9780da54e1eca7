"""Several processes of a server start, end and are replaced. They run a stub here;
`tests/test_serve_readers.py` kills a process of a real server."""

import concurrent.futures
import functools
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from multiprocessing import reduction, resource_tracker, spawn, util
from pathlib import Path

import pytest
from processes import wait_for

from tfx_transformer.errors import InputError
from tfx_transformer.serve import workers
from tfx_transformer.serve.workers import Workers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def refuse(listening, ready):
    raise InputError("there is no bundle.\n  Name one.")


def end(listening, ready):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refuse, "there is no bundle.\n  Name one."),
        (end, "the server's process was ended by signal 9 while it started."),
    ],
)
def test_a_worker_that_does_not_start_ends_all(answer, message):
    with socket.socket() as listening, pytest.raises(InputError) as caught:
        Workers(2, answer, listening, 1.0).run(lambda: pytest.fail("nothing answers"))
    assert str(caught.value) == message


def take(content, listening, ready):
    raise InputError(f"{len(content)} bytes")


@pytest.fixture
def dying(monkeypatch):
    """Workers that end before they read what they are started with."""
    resource_tracker.ensure_running()
    monkeypatch.setattr(spawn, "_python_exe", b"/bin/false")


def test_the_argument_of_a_worker_may_be_large():
    with socket.socket() as listening, pytest.raises(InputError, match="3000000 bytes"):
        Workers(1, functools.partial(take, bytes(3_000_000)), listening, 1.0).run(lambda: None)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named(monkeypatch):
    full = functools.partial(io.open, "/dev/full", "wb+")
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with socket.socket() as listening, pytest.raises(InputError) as caught:
        Workers(1, functools.partial(take, b"123"), listening, 1.0).run(lambda: None)
    assert str(caught.value) == (
        f"the folder {tempfile.gettempdir()} cannot hold what the workers share: "
        "No space left on device.\n  Make room there, or name another folder in TMPDIR."
    )


def test_where_no_open_file_can_be_passed_on_the_content_is(monkeypatch, tmp_path):
    monkeypatch.delattr(reduction, "DupFd")  # as on Windows
    with (tmp_path / "stored").open("wb+") as file:
        pickle.dump("content", file)
        file.flush()
        passed = reduction.ForkingPickler.dumps(workers._Stored(file))
    assert pickle.loads(passed) == "content"


def test_a_worker_that_reads_nothing_does_not_block_its_parent(dying):
    with socket.socket() as listening:
        one = Workers(1, functools.partial(take, bytes(3_000_000)), listening, 1.0)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            ended = pool.submit(one.run, lambda: pytest.fail("nothing answers"))
            with pytest.raises(InputError, match="ended with status 1 while it started"):
                ended.result(20)


def test_no_process_stays_if_a_signal_comes_while_it_starts(dying, monkeypatch):
    over = threading.Event()
    threading.Thread(target=over.wait).start()  # it gets what this thread's mask holds back
    started, start = [], util.spawnv_passfds

    def interrupted(*arguments):
        started.append(start(*arguments))
        os.kill(os.getpid(), signal.SIGINT)
        return started[-1]

    monkeypatch.setattr(util, "spawnv_passfds", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist ignores it
    try:
        with socket.socket() as listening, pytest.raises(KeyboardInterrupt):
            Workers(1, end, listening, 1.0).run(lambda: pytest.fail("nothing answers"))
    finally:
        signal.signal(signal.SIGINT, before)
        over.set()
    with pytest.raises(ChildProcessError):  # the process was waited for
        os.waitpid(started[0], os.WNOHANG)


# Each worker writes its process id into a folder; the second and the third end at once.
STUB = """
    import os, socket, sys, threading
    from pathlib import Path
    from tfx_transformer.errors import InputError
    from tfx_transformer.serve.workers import Workers

    def answer(listening, ready):
        folder = Path(sys.argv[1])
        count = len(list(folder.iterdir()))
        (folder / f"{count}-{os.getpid()}").touch()
        if count == 1:
            print("it has no memory", file=sys.stderr)
            sys.exit(3)
        if count == 2:
            raise InputError("the bundle is gone.")
        finished = threading.Event()
        ready(finished.set)
        finished.wait(60)

    if __name__ == "__main__":
        # As the command does it: only `sys.stderr` leads to the terminal.
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with socket.socket() as listening:
            Workers(2, answer, listening, 1.0).run(lambda: print("ready", flush=True))
"""


def test_a_worker_for_which_there_is_no_process_is_tried_later(monkeypatch, capsys):
    one = Workers(1, end, None, 1.0)

    def start(slot):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(one, "_start", start)
    one._watch()
    (slot,) = one._slots
    assert slot.due - time.monotonic() == pytest.approx(1.0, abs=0.2)
    assert "worker 1 cannot start: [Errno 11] Resource" in capsys.readouterr().err


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return b"Z" not in Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2][:3]


def test_workers_are_replaced_and_end_with_their_parent(tmp_path):
    script, folder = tmp_path / "stub.py", tmp_path / "started"
    script.write_text(textwrap.dedent(STUB))
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, script, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout.readline() == "ready\n"
        names = wait_for(lambda: len(found := sorted(os.listdir(folder))) == 4 and found)
        first, *_, last = (int(name.partition("-")[2]) for name in names)
        assert is_running(first) and is_running(last)
        time.sleep(0.3)  # the last one answers
        os.kill(first, signal.SIGKILL)
        names = wait_for(lambda: len(found := sorted(os.listdir(folder))) == 5 and found)
        replacing = int(names[-1].partition("-")[2])
        time.sleep(0.3)
        parent.kill()
        wait_for(lambda: not is_running(last) and not is_running(replacing), 10)
        lines = parent.stderr.read().splitlines()
        assert lines.pop(0) == "it has no memory"
        assert lines.pop(2) == "the bundle is gone.", "after the line of its worker"
        assert [line.partition(" (")[0] for line in lines] == ["worker 2", "worker 2", "worker 1"]
        assert lines[0].endswith("ended with status 3; starting it again.")
        assert lines[1].endswith("ended with status 2; starting it again.")
        assert lines[2].endswith("was ended by signal 9; starting it again.")
    finally:
        parent.kill()
        parent.wait()
