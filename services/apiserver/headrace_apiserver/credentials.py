"""TLS of the listener, and client certificates."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from headrace.domain.errors import Permanent
from headrace.runtime.certificates import load_authorities, load_pair
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.credential_files import CredentialFiles
from headrace_apiserver.connections import BoundedProtocol


@dataclass(frozen=True, slots=True)
class ServingCertificate:
    """What the listener presents to clients."""

    context: ssl.SSLContext
    pem: bytes
    """The certificate chain in the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files for TLS; without a certificate the listener speaks plain HTTP."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    """CA certificates that sign client certificates."""

    def renewed(self) -> CredentialFiles[ServingCertificate] | None:
        """The certificate and its TLS context, which are renewed with the files; None for plain
        HTTP. Raises Permanent with the option of a file that cannot be used.
        """
        certificate, key = self.certificate, self.key
        if (certificate is None) != (key is None):
            raise Permanent(
                "--tls-cert-file and --tls-key-file belong together: set both or neither"
            )
        if certificate is None or key is None:
            if self.client_ca is not None:
                raise Permanent(
                    "--client-ca-file needs TLS: set --tls-cert-file and --tls-key-file too"
                )
            return None
        files = [
            CredentialFile("--tls-cert-file", certificate, FileKind.CERTIFICATE),
            CredentialFile("--tls-key-file", key, FileKind.KEY),
        ]
        if self.client_ca is not None:
            files.append(CredentialFile("--client-ca-file", self.client_ca, FileKind.AUTHORITIES))
        for each in files:
            if not each.path.is_file():
                raise Permanent(f"{each.setting} {each.path}: no such file")
        return CredentialFiles(
            "HTTPS of the controller's API", files, lambda: self._load(certificate, key)
        )

    def _load(self, certificate: Path, key: Path) -> ServingCertificate:
        # A new context each time: the authorities of an existing one cannot be removed.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            load_pair(context, certificate, key)
            pem = certificate.read_bytes()
        except OSError as error:
            raise Permanent(f"--tls-cert-file {certificate}: {error.strerror}") from error
        except ValueError as error:
            raise Permanent(
                f"--tls-cert-file {certificate} with --tls-key-file {key} cannot be used: {error}"
            ) from error
        if self.client_ca is not None:
            # Optional: a client without a certificate may have a token, and one without either gets
            # a 401 that it can read instead of a TLS error.
            context.verify_mode = ssl.CERT_OPTIONAL
            try:
                load_authorities(context, self.client_ca)
            except ValueError as error:
                raise Permanent(
                    f"--client-ca-file {self.client_ca} cannot be used: {error}"
                ) from error
        return ServingCertificate(context, pem)


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
