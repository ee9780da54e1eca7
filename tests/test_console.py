"""What a terminal shows while a command works: a heartbeat, and lines that fit."""

import io
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from tfx_transformer import console
from tfx_transformer.console import Console, width, wrapped


class Terminal(io.StringIO):
    """A terminal that keeps what it is shown."""

    def isatty(self):
        return True


@pytest.fixture
def fast(monkeypatch):
    """Beats that come fast."""
    monkeypatch.setattr(console, "_SILENCE", 0.05)
    monkeypatch.setattr(console, "_BEAT", 0.02)


def test_a_silent_command_says_what_it_does(fast, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with console.heartbeat():
        console.begin("starting something")
        time.sleep(0.3)
        assert "\r\x1b[K  starting something … 0 s" in terminal.getvalue()
        console.doing("something else")
        time.sleep(0.3)
        Console(sys.stdout).write("done\n")
    assert "something else … 0 s" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K"), "the line is gone"
    assert capsys.readouterr().out == "starting something\ndone\n"
    before = terminal.getvalue()
    time.sleep(0.2)
    assert terminal.getvalue() == before, "nothing beats after the end"


def test_what_is_written_starts_the_silence_anew(monkeypatch):
    monkeypatch.setattr(console, "_SILENCE", 30)
    monkeypatch.setattr(console, "_BEAT", 0.01)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with console.heartbeat():
        for _ in range(20):
            Console(sys.stderr).write("x")
            time.sleep(0.01)
    assert terminal.getvalue() == "x" * 20


def test_nothing_beats_in_a_file(monkeypatch, capsys):
    monkeypatch.setattr(console, "_BEAT", 0.01)
    monkeypatch.setattr(console, "_SILENCE", 0.0)
    with console.heartbeat():
        console.begin("a step")
        time.sleep(0.1)
    console.begin("of a library")  # a call in Python, not a command
    assert capsys.readouterr() == ("a step\n", "")


def test_a_console_in_a_console_leaves_colours(capsys):
    outer = Console(sys.stdout)
    Console(outer).write_as_is("\x1b[1mbold\x1b[0m")
    Console(outer).write("\x1b[1m")
    assert capsys.readouterr().out == "\x1b[1mbold\x1b[0m\\x1b[1m"


@pytest.mark.parametrize(
    ("text", "columns", "indent", "lines"),
    [
        ("one two three", 7, "", ["one two", "three"]),
        ("one two three", 8, "  ", ["one two", "  three"]),
        ("  name   a b c", 10, " " * 9, ["  name   a", "         b", "         c"]),
        ("unbreakable", 5, "", ["unbreakable"]),
        ("猫が好きです。", 6, "", ["猫が好", "きで", "す。"]),
        ("正解率は（92.5 %）です", 12, "", ["正解率は", "（92.5 %）で", "す"]),
        ("線形モデルです", 8, "", ["線形", "モデルで", "す"]),
        ("", 5, "", [""]),
    ],
)
def test_lines_are_broken_where_they_may_be(text, columns, indent, lines):
    assert wrapped(text, columns, indent) == lines
    assert all(width(line) <= columns for line in lines if " " in line.strip())


def test_a_recipe_on_a_terminal_says_at_once_what_it_does(tmp_path):
    """The first lines of a run, on a pseudo-terminal, before TensorFlow is there."""
    (tmp_path / "tensorflow.py").write_text("import sys; sys.exit(7)", "utf-8")
    (tmp_path / "keras.py").write_text("import sys; sys.exit(7)", "utf-8")
    main, terminal = pty.openpty()
    source = "from tfx_transformer.cli import main; main(['run', 'embedding'])"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        timeout=60,
    )
    os.close(terminal)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    assert done.returncode == 7
    shown = re.sub("\r\x1b\\[K(  starting … [0-9]+ s)?", "", shown)  # where the machine is slow
    assert shown == "reading the data\r\nstarting TensorFlow\r\n"
