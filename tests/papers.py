"""A private authority, and a certificate of it for this machine."""

import ssl
from pathlib import Path

import trustme


class Papers:
    """An authority, and a certificate of it, for this machine's own address by default."""

    def __init__(self, folder: Path, *names: str) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        authority.cert_pem.write_to_path(self.ca)
        issued.cert_chain_pems[0].write_to_path(self.cert)
        issued.private_key_pem.write_to_path(self.key)

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client trusts that was told of the authority."""
        return ssl.create_default_context(cafile=str(self.ca))

    @property
    def options(self) -> tuple[str, ...]:
        """The mock's command line."""
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))
