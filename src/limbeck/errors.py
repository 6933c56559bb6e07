"""What a user can mend: one line on standard error and exit code 2, never a traceback.

Everything below raises these; `cli.exit_on_user_error` turns them into that line.
"""


class UserError(ValueError):
    """A wrong input. The message is one line naming the argument, the value and what is allowed."""


class CheckpointError(UserError):
    """A model file that is missing, unreadable, refused for safety, or of another shape."""
