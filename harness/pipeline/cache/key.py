"""What makes two questions the same: normalised text, router and model."""

import hashlib

SCOPE_BYTES = 8  # of a key: what has them in common has router version and model in common


def cache_key(text: str, router_version: str, model: str) -> bytes:
    """Key of an answer; white space does not count, anything else does."""
    normalised = " ".join(text.split())
    scope = hashlib.blake2b(f"{router_version}\0{model}".encode(), digest_size=SCOPE_BYTES)
    return scope.digest() + hashlib.blake2b(normalised.encode(), digest_size=16).digest()
