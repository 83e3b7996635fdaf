"""The one error a user can cause: it carries the line to print, and the caller exits with 2."""


class InputError(Exception):
    """Bad input from the user: the message says where the fault is and what to do about it.

    Raised for a bad scenario, corpus, option or target. Never raised for a fault of the peer (those
    are values in a record) nor for a fault of ours (those are ordinary exceptions).
    """
