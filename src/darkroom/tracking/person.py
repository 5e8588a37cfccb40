"""Who is at work."""

import getpass


def user_name() -> str:
    """Returns the name of this process's user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"
