"""The exception for errors that a user can fix: in a file, a flag, a column name."""

from __future__ import annotations

import os


class InputError(ValueError):
    """The error of bad input from the user.

    The message says what happened and where (file, row, column) on its first line, then, indented,
    what was expected and how to fix it. The command line prints it without a traceback and exits
    with status 2.

    Args:
        message: the text to print.
        file: the file at fault, which is put before the message; None: the message names it, or
            `in_file` will.

    Attributes:
        file: as given.
    """

    def __init__(self, message: str, file: str | os.PathLike | None = None) -> None:
        super().__init__(message if file is None else f"{file}: {message}")
        self.file = file

    def in_file(self, file: str | os.PathLike) -> InputError:
        """Return this error; its message begins with the file from now on, if it had none."""
        if self.file is None:
            self.args, self.file = (f"{file}: {self}",), file
        return self
