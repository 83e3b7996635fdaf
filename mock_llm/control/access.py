"""Who may control a mock: whoever has the token and asks from this machine.

Theory of operation. A request from another machine is refused whatever it knows, unless that was
allowed. So is one whose `Host` is a name other than `localhost`: a web page that has its own name
point to 127.0.0.1 (DNS rebinding) reaches the port, but cannot change that field. The token comes
in a header field that no form can send, and no answer allows another origin to read it.
"""

import hmac
import ipaddress
import os
import secrets
from urllib.parse import urlsplit

from mock_llm.errors import InputError

VARIABLE = "MOCK_LLM_CONTROL_TOKEN"
_SHORTEST = 8


class Access:
    """The token, and from where it may be used.

    Args:
        token: None makes one up.
        anywhere: requests from other machines are served too.

    Attributes:
        made: the token was made up here, so that its owner has yet to be told.

    Raises:
        InputError: the token is too short to be one, or no header field can hold it.
    """

    def __init__(self, token: str | None = None, *, anywhere: bool = False) -> None:
        if token is not None and (len(token) < _SHORTEST or not token.isascii() or " " in token):
            wanted = f"at least {_SHORTEST} characters of ASCII without blanks"
            raise InputError(f"{VARIABLE}: not a token; give {wanted}, or leave it out")
        self.made = token is None
        self.token = secrets.token_urlsafe(24) if token is None else token
        self.anywhere = anywhere

    @classmethod
    def from_environment(cls, *, anywhere: bool = False) -> "Access":
        """With the token that the environment has, if it has one; see `Access`."""
        return cls(os.environ.get(VARIABLE) or None, anywhere=anywhere)

    def near(self, peer: object, host: str) -> bool:
        """Whether a request may be looked at.

        Args:
            peer: address of the socket that it came from, as the transport gives it.
            host: its `Host` field.
        """
        return self.anywhere or (_loopback(peer) and _no_name(host))

    def knows(self, authorization: str, token: str) -> bool:
        """Whether a request has the token: as a Bearer, or in a field of its own."""
        scheme, _, bearer = authorization.partition(" ")
        given = token or (bearer.strip() if scheme.lower() == "bearer" else "")
        # In constant time, so that nobody finds it letter by letter.
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def lines(self, base_url: str) -> list[str]:
        """What to tell whoever started the mock at this address."""
        origin = base_url.removesuffix("/api/v1")
        for every, here in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
            origin = origin.replace(every, here)
        token = self.token if self.made else f"as in {VARIABLE}"
        mark = f"#token={self.token}" if self.made else ""
        return [
            f"mock_llm control token: {token}",
            f"mock_llm dashboard: {origin}/__dashboard{mark}",
        ]


def _loopback(peer: object) -> bool:
    if not isinstance(peer, tuple):  # no address, no way to tell
        return False
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _no_name(host: str) -> bool:
    """Whether a `Host` is an address or localhost, which nobody's name server decides about."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
