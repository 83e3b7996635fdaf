"""A handshake that never ends."""

from mock_llm.faults.network import NetworkFault


class TlsStall(NetworkFault, frozen=True, kw_only=True, tag="tls_stall"):
    """The connection is accepted, and the TLS handshake is never answered.

    Evidence: aiohttp#3651 (a handshake of more than a minute under many parallel ones). Every
    request that waits for this connection waits until its client gives up. With TLS, and on the
    virtual clock, it is the connecting that stalls. Over plain HTTP there is no handshake: the
    connection is made, and what is sent on it meets silence. In the ledger it is a row without key.
    """
