"""A name that is not resolved."""

from mock_llm.faults.network import NetworkFault


class DnsFailure(NetworkFault, frozen=True, kw_only=True, tag="dns_failure"):
    """Looking up the provider's name fails, for the moment.

    Evidence: litellm#17252 (`Temporary failure in name resolution` under load). No server can do
    this to its client: the fault exists on the virtual clock only, whose network answers look-ups.
    A client that keeps its connections, or what it looked up, meets it more rarely.
    """
