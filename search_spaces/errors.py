"""The one exception for mistakes that the user can mend."""


class InputError(ValueError):
    """The user's input is wrong: the message says what, where, and what would be right.

    The command line prints the message as one line and exits with status 2.
    """
