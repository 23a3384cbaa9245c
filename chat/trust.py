"""TLS to a server, and which servers to trust."""

from __future__ import annotations

import ssl

from loop.tls import NO_RENEGOTIATION, TLS, Broken, NotTLS

from .files import must_be_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Callable

    from loop.traps import Coroutine

PARTIAL_CHAIN = getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)  # Python 3.9 has no name for this number


class Trust:
    """Trust in servers whose certificate is from one of the system's authorities, or from one of those in a file.

    `blindly` means trust in any server. Nobody on the way can read along, but anybody can pretend to be the server.
    """

    def __init__(self, authorities: str | None, blindly: bool = False) -> None:
        """Raises ValueError, with a line for the user."""
        try:
            if authorities is not None:
                must_be_file(authorities, once=True)
            self.context = ssl.create_default_context(cafile=authorities)
        except ssl.SSLError:
            raise ValueError(f"there is no certificate in {authorities}, or not in PEM format") from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise ValueError(f"cannot read {authorities or repr('')}: {why}") from None
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= NO_RENEGOTIATION  # a renegotiation would make a write wait for a read
        if authorities:  # the file may have the server's own certificate instead of an authority's
            self.context.verify_flags |= PARTIAL_CHAIN
        if blindly:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE

    def greet(self, sock: socket.socket, host: str, left: Callable[[], float | None]) -> Coroutine[TLS]:
        """COROUTINE. Begins TLS. The certificate has to name `host`. Each wait takes at most `left()` seconds.

        Raises OSError or TimedOut.
        """
        try:
            tls = TLS(sock, self.context, host)
            yield from tls.begin(left)
            return tls
        except NotTLS:
            raise OSError("the server does not speak TLS") from None
        except Broken as error:
            raise OSError(f"no TLS: {error.strerror}") from None
        except ValueError:  # from OpenSSL, for what cannot be a name
            raise OSError(f"no certificate can be for {host!r}") from None
