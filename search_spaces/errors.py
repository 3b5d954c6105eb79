"""The one exception for mistakes that the user can mend."""

from search_spaces.addresses import printable, without_secrets


class InputError(ValueError):
    """The user's input is wrong: the message says what, where, and what would be right.

    The command line prints the message and exits with status 2. It is one line: line breaks become
    spaces. Secrets in addresses are left out, and control characters, which a file's name may hold,
    are written as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(without_secrets(" ".join(message.split()))))
