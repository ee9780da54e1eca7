"""The one exception for what a user can fix: a file, a flag, a column name."""


class InputError(ValueError):
    """Bad input of the user.

    The message says what happened and where (file, row, column) on its first line, then, indented,
    what was expected and how to fix it. The command line prints it without a traceback and exits
    with status 2.
    """
