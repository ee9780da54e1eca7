"""A recipe's `main` as a command: its keyword defaults are the flags."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfx_transformer import installation
from tfx_transformer.arguments import use_flags
from tfx_transformer.console import Console, as_json, begin, heartbeat
from tfx_transformer.errors import InputError
from tfx_transformer.renamed import old_names

if TYPE_CHECKING:
    from tfx_transformer.devices import Devices
    from tfx_transformer.presets import Preset

if not TYPE_CHECKING:  # a checker that sees it accepts every name
    __getattr__ = old_names(__name__, {"guarded": "run_action", "muted": "silence"})

# Messages of the system when nothing can be written, which all libraries repeat.
_NO_ROOM = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Read-only file system",
    "Permission denied",
)

# Messages of TensorFlow.
_NO_MEMORY = ("OOM when allocating tensor", "failed to allocate memory")

# Packages whose modules have other names.
_PACKAGES = {"PIL": "pillow", "ai_edge_litert": "ai-edge-litert", "litert_lm": "litert-lm"}
# Packages that come with an extra.
_EXTRAS = {"starlette": "serve", "uvicorn": "serve"}
_OURS = "tfx_transformer"

# Seconds after which the exception of a signal is raised again, in case it was caught.
_AGAIN = 0.2


def run(main: Callable[..., Any], arguments: Sequence[str] | None = None) -> None:
    """Call `main` with the flags of the command line, and exit.

    Every parameter of `main` has a default and a flag: see `flag_parser`. `--config FILE` reads
    values from a YAML or JSON file, such as `runs/<name>/settings.json`, and `--preset NAME` from
    the table `presets`. `--devices` and `--hosts` are flags of every recipe: see `devices`.
    """
    from tfx_transformer import devices, wording
    from tfx_transformer.flag_parser import add_group, group_of, make_parser, parse
    from tfx_transformer.presets import presets_of

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    asked = argparse.Namespace(debug="--debug" in arguments, json="--json" in arguments)

    def action() -> Any:
        parser = make_parser(main, _command(main))
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="YAML or JSON file of settings, such as runs/<name>/settings.json of a run to "
            "repeat; flags replace its values.",
        )
        known = presets_of(_recipe(main))
        _add_preset_flag(parser, known)
        add_group(parser, devices.Devices)
        add_common_flags(parser)
        add_language_flag(parser)
        saved = {name: preset.settings for name, preset in known.items()}
        settings, chosen = parse(main, parser, arguments, saved)
        wording.use(chosen.language)
        wording.language()  # refuses another one
        use_flags(parser.flags())
        divided = group_of(devices.Devices, chosen)
        devices.use(divided)
        if divided.place.index:
            return _follow(main, settings, divided)
        with heartbeat():
            return main(**settings)

    try:
        run_action(action, asked)
    except BaseException as ended:  # with --debug any error
        if devices.leave_early is not None:
            devices.leave_early(ended)
        raise


def _follow(main: Callable[..., Any], settings: dict[str, Any], divided: Devices) -> Any:
    """Run a recipe on a host that is not host 0: it prints one line."""
    from tfx_transformer.devices import Followed

    place = divided.place
    print(f"Host {place.index} of {place.count} trains too; host 0 prints and writes.", flush=True)
    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
        try:
            return main(**settings)
        except Followed as ended:
            return ended.result


def _command(main: Callable[..., Any]) -> str:
    """Return the command of a recipe as the user types it, for messages."""
    module = inspect.getmodule(main)
    file = getattr(module, "__file__", None)
    if file is None:
        return "tfx-transformer run"
    if os.path.dirname(os.path.abspath(file)) == os.path.dirname(
        os.path.abspath(sys.argv[0])
    ) and sys.argv[0].endswith(".py"):
        return f"python {sys.argv[0]}"
    return f"tfx-transformer run {_recipe(main)}"


def _recipe(main: Callable[..., Any]) -> str:
    """Return the name of a recipe's file, without its ending; "" for a function of no file."""
    file = getattr(inspect.getmodule(main), "__file__", None) or ""
    return os.path.splitext(os.path.basename(file))[0]


def _add_preset_flag(parser: argparse.ArgumentParser, known: Mapping[str, Preset]) -> None:
    """Add `--preset`, if the recipe has presets."""
    if not known:
        return
    purposes = " ".join(f"{name}: {preset.purpose}." for name, preset in known.items())
    parser.add_argument(
        "--preset",
        choices=known,
        help=f"Settings for one kind of data; those of --config and flags replace them. {purposes}",
    )


def add_common_flags(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Add `--json` and `--debug`, which every command has.

    Args:
        again: the parser is of a kind, such as `words` of `vectors`; flags before its name count.
    """
    default = argparse.SUPPRESS if again else False
    for flag, text in (
        ("--json", "Print one JSON object on standard output."),
        ("--debug", "Show tracebacks and logs of libraries."),
    ):
        parser.add_argument(flag, action="store_true", default=default, help=text)


def add_language_flag(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Add `--language`, which every command has except `run.pyz`."""
    from tfx_transformer.wording import LANGUAGES

    parser.add_argument(
        "--language",
        choices=LANGUAGES,
        default=argparse.SUPPRESS if again else None,
        help="Language of conclusions, model cards and reports. [TFX_LANGUAGE, or the locale]",
    )


def run_action(action: Callable[[], Any], chosen: argparse.Namespace) -> None:
    """Run a command and exit: 0 on success, 2 with one message on bad input, 130 after SIGINT, 143
    after SIGTERM, 1 after a fault of the program.

    With `--json` the action's result is printed as JSON; its other output goes to standard error.
    """
    if not chosen.debug:
        hush()
    output, errors = Console(sys.stdout), Console(sys.stderr)
    with contextlib.redirect_stderr(errors):
        try:
            with _terminable(), contextlib.redirect_stdout(errors if chosen.json else output):
                result = action()
            if chosen.json:
                output.write_as_is(as_json(result, sys.stdout) + "\n")
            output.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
            sys.exit(0)
        except (KeyboardInterrupt, Exception) as error:
            if chosen.debug:
                raise
            message, status = _report(error)
            print(message, file=errors)
            sys.exit(status)
        finally:
            use_flags(None)
    sys.exit(0)


def _report(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit status for an exception that ends a command."""
    if isinstance(error, KeyboardInterrupt):
        return "\nInterrupted.", 130
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, ModuleNotFoundError) and installation.leaves_out(error.name or ""):
        return installation.needs_all(error.name or ""), 2
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith(_OURS):
        package = (error.name or "").partition(".")[0]
        name = _PACKAGES.get(package, package)
        extra = _EXTRAS.get(package)
        wanted = installation.requirement(extra) if extra else name
        return f"the package {name} is missing.\n  pip install {wanted}", 2
    if any(text in str(error) for text in _NO_ROOM):
        return (
            f"a file could not be written or read: {error}\n"
            "  Make room, or change to a folder where you may write. Then repeat the command."
        ), 2
    if isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY):
        return (
            "there is not enough memory.\n"
            "  Make batches, lengths, the model or the input smaller, or close other programs."
        ), 2
    if isinstance(error, OSError) and error.strerror:  # the system's fault, not this program's
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        where = f"{name[:200]}: " if name else ""
        return f"{where}{error.strerror}.\n  Check the files that the command names.", 2
    return (
        f"{type(error).__name__}: {error}\n  This is a fault of the program, not of the input. "
        "Run it again with --debug for the traceback."
    ), 1


@contextlib.contextmanager
def _terminable():
    """End the block by an exception on SIGTERM or SIGINT, so that temporary folders are removed.

    Destructors, and TensorFlow's tracing of functions, catch all exceptions. So the exception is
    raised again, five times a second, until the block is being left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[BaseException] = []
    hook = sys.unraisablehook

    def is_leaving() -> bool:
        error = sys.exception()
        while error is not None and error not in raised:
            error = error.__context__
        return error is not None

    def end(number, frame):
        if is_leaving():
            return
        first = raised[0] if raised else SystemExit(128 + number)
        if not raised and number == signal.SIGINT:
            first = KeyboardInterrupt()
        if not raised and hasattr(signal, "setitimer"):
            before[signal.SIGALRM] = signal.signal(signal.SIGALRM, end)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raised.append(type(first)(*first.args))
        raise raised[-1]

    def report(unraisable):
        if unraisable.exc_value not in raised:
            hook(unraisable)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    sys.unraisablehook = report
    try:
        yield
    except Exception:
        if raised:  # this exception follows from the signal
            raise raised[0] from None
        raise
    else:
        if raised:
            raise raised[0]
    finally:
        if raised and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def hush() -> None:
    """Silence the logs of TensorFlow and LiteRT and the warnings of libraries, before their import.

    Their C++ code writes to file descriptor 2, so this is redirected to the null device, and
    Python's standard error gets a copy of the descriptor.
    """
    import warnings

    # A command within a command has the console of the outer one, with the copy of the descriptor.
    stream = sys.stderr.stream if isinstance(sys.stderr, Console) else sys.stderr
    if isinstance(stream, _Hushed):
        return
    sys.stderr = _Hushed(os.fdopen(os.dup(2), "wb"), errors="backslashreplace", line_buffering=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    quiet_environment()
    warnings.filterwarnings("ignore")


def quiet_environment() -> None:
    """Silence TensorFlow's C++ logs before its import, unless the user's environment sets their
    level. Errors are raised as before."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not os.path.exists("/dev/nvidiactl"):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # else TensorFlow reports missing GPUs


@contextlib.contextmanager
def starting_keras() -> Iterator[None]:
    """Wrap an import of Keras: the first one, which starts TensorFlow, is silenced, and later logs
    show only errors, unless the user has set a level. A command reports the start, which takes
    seconds."""
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        yield
        return
    begin("starting TensorFlow")
    logger = logging.getLogger("tensorflow")
    level = logger.level or logging.ERROR
    quiet_environment()
    with silence():
        yield
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].get_logger()  # in a notebook the first call sets a level
        logger.setLevel(level)


class _Hushed(io.TextIOWrapper):
    """Python's standard error while descriptor 2 is redirected to the null device."""


_muting = threading.Lock()
_muters = 0  # blocks of `silence` that run now, in any thread
_unmuted = -1  # a copy of file descriptor 2 from before the first of them


@contextlib.contextmanager
def silence():
    """Discard the output of C++ code to standard error while libraries start.

    File descriptor 2 belongs to the whole process: the first of several threads redirects it to the
    null device, the last one restores it.
    """
    global _muters, _unmuted
    with _muting:
        if not _muters:
            _unmuted = _redirect_to_null()
        _muters += 1
    try:
        yield
    finally:
        with _muting:
            _muters -= 1
            if not _muters and _unmuted >= 0:
                os.dup2(_unmuted, 2)
                os.close(_unmuted)


def _redirect_to_null() -> int:
    """Redirect file descriptor 2 to the null device; return a copy of it, or -1 if it is closed."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        copy = os.dup(2)
    except OSError:
        return -1
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return copy
