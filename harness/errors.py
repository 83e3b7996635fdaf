"""The one error a user can cause; command lines print its message on one line and exit with 2."""

from mock_llm.errors import InputError

__all__ = ["InputError"]
