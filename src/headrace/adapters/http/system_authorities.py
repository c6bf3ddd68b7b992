"""The CA certificates of the system, which verify servers that are connected to."""

import ssl
from pathlib import Path

from headrace.adapters.http.client_dialer import forget_contexts
from headrace.runtime.certificates import load_authorities
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.credential_files import CredentialFiles, UnusableCertificate


def system_authorities(path: Path | None = None) -> CredentialFiles[None]:
    """Return the component that makes the clients of this process read them again when their file
    changes: that of `SSL_CERT_FILE`, or the usual one. `path` is another one, for tests.
    """
    paths = ssl.get_default_verify_paths()
    found = path or paths.cafile
    if not found:  # There may be a directory only, whose files are read when they are needed.
        return CredentialFiles("HTTPS clients", [], lambda: None)
    file = CredentialFile("SSL_CERT_FILE", Path(found), FileKind.AUTHORITIES)

    def load() -> None:
        try:
            load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), file.path)
        except ValueError as error:
            raise UnusableCertificate(f"{file.setting}: cannot use {file.path}: {error}") from error

    files = CredentialFiles("HTTPS clients", [file], load)
    files.renewing(lambda _: forget_contexts())
    return files
