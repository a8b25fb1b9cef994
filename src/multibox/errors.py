"""The errors a caller may want to catch, and the exit codes the command line gives them."""

# What could break a line or colour a terminal: names come from files, and may hold anything.
_CONTROLS = {
    code: " " if chr(code).isspace() else f"\\x{code:02x}"
    for code in (*range(32), *range(127, 160), 0x2028, 0x2029)
}


class MultiboxError(Exception):
    """The work failed. The message is one clear line; the command line ends with exit code 1."""

    exit_code = 1

    def __str__(self) -> str:
        return super().__str__().translate(_CONTROLS)


class InputError(MultiboxError):
    """The call or its input is wrong: the message names the file and the remedy (exit code 2)."""

    exit_code = 2


class ImageError(InputError):
    """A picture cannot be read: not an image, damaged, or larger than the limit."""


class Interrupted(MultiboxError):
    """A signal ended the work, whose state is saved and can be resumed."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class EndedElsewhere(MultiboxError):
    """Another process of the run has ended it, says why, and gives ``exit_code``."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
