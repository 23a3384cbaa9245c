"""A certificate for TLS in the simulated world, the same in each run, and the contexts of both sides.

All lengths in a handshake with it are always the same, as Ed25519 has no encodings of several lengths; so a seed that
is run again takes the same way, though OpenSSL's own dice cannot be replaced.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chat.server.certificate import Certificate

BEGIN, END = datetime(2000, 1, 1, tzinfo=timezone.utc), datetime(2200, 1, 1, tzinfo=timezone.utc)


@cache
def pem() -> tuple[str, str]:
    """The certificate and its key."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the simulated world")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, BEGIN, END)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(key, None).public_bytes(Encoding.PEM).decode(), private.decode()


@cache
def server_context() -> ssl.SSLContext:
    """That of --tls."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "both.pem")
        file.write_text("".join(pem()))
        return Certificate(str(file)).context


@cache
def client_context(trusting: bool, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """That of a client, which verifies whom it talks to; if it is not `trusting`, it knows nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = newest
    if trusting:
        context.load_verify_locations(cadata=pem()[0])
    return context
