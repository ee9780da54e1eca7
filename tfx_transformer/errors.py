"""The one exception for what a user can fix: a file, a flag, a column name."""

from __future__ import annotations

import os


class InputError(ValueError):
    """Bad input of the user.

    The message says what happened and where (file, row, column) on its first line, then, indented,
    what was expected and how to fix it. The command line prints it without a traceback and exits
    with status 2.

    Args:
        message: what is printed.
        file: what the message is about, if it does not name it yet: then it begins with it.

    Attributes:
        file: as given. None: whoever knows the file may name it, see `in_file`.
    """

    def __init__(self, message: str, file: str | os.PathLike | None = None) -> None:
        super().__init__(message if file is None else f"{file}: {message}")
        self.file = file

    def in_file(self, file: str | os.PathLike) -> InputError:
        """This error, which names the file from now on, if it has none yet."""
        if self.file is None:
            self.args, self.file = (f"{file}: {self}",), file
        return self
