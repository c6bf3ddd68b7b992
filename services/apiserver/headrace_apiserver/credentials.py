"""TLS of the listener, and client certificates."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from headrace.domain.errors import Permanent
from headrace_apiserver.connections import BoundedProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files for TLS; without a certificate the listener speaks plain HTTP."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    """CA certificates that sign client certificates."""

    def context(self) -> ssl.SSLContext | None:
        """The TLS context, None for plain HTTP. Raises Permanent with the option of a file that
        cannot be used.
        """
        if (self.certificate is None) != (self.key is None):
            raise Permanent(
                "--tls-cert-file and --tls-key-file belong together: set both or neither"
            )
        if self.certificate is None or self.key is None:
            if self.client_ca is not None:
                raise Permanent(
                    "--client-ca-file needs TLS: set --tls-cert-file and --tls-key-file too"
                )
            return None
        for option, path in (
            ("--tls-cert-file", self.certificate),
            ("--tls-key-file", self.key),
            ("--client-ca-file", self.client_ca),
        ):
            if path is not None and not path.is_file():
                raise Permanent(f"{option} {path}: no such file")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(str(self.certificate), str(self.key))
        except (ssl.SSLError, OSError) as error:
            raise Permanent(
                f"--tls-cert-file {self.certificate} with --tls-key-file {self.key} cannot be used:"
                f" {error}"
            ) from error
        if self.client_ca is not None:
            # Optional: a client without a certificate may have a token, and one without either gets
            # a 401 that it can read instead of a TLS error.
            context.verify_mode = ssl.CERT_OPTIONAL
            try:
                context.load_verify_locations(str(self.client_ca))
            except (ssl.SSLError, OSError) as error:
                raise Permanent(
                    f"--client-ca-file {self.client_ca} cannot be used: {error}"
                ) from error
        return context


class CertificateProtocol(BoundedProtocol):
    """The HTTP protocol, with the verified certificate of the client in
    `scope["client_certificate"]`.
    """

    def on_headers_complete(self) -> None:
        """Add the certificate to the scope before the application is called."""
        connection = self.transport.get_extra_info("ssl_object")
        if connection is not None:
            self.scope["client_certificate"] = connection.getpeercert()  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
