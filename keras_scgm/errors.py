"""The one exception that means "the input is at fault, not the program"."""


class InputError(ValueError):
    """A file or an argument cannot be used; the message says what, where and what to do.

    The command line prints it as one line and goes on with the next file.
    """
