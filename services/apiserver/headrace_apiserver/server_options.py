"""The options of the API server: address, authentication, TLS."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServerOptions:
    """The options of one `ApiListener`. The process that runs the API server reads them from its
    own settings.
    """

    host: str
    """Address to listen on; any but a loopback address needs a token file or client
    certificates.
    """
    port: int
    """0 for any free port."""
    host_names: frozenset[str] = frozenset()
    """Names that a Host header may carry besides localhost and loopback addresses; in lower case,
    without port, brackets and final dot.
    """
    token_file: Path | None = None
    """File of bearer tokens; see `headrace_apiserver.token_file`."""
    create_token_file: bool = False
    """Create the token file with a random token if it does not exist."""
    client_ca_file: Path | None = None
    """CA certificates (PEM) that sign client certificates; needs TLS."""
    tls_cert_file: Path | None = None
    """Certificate chain (PEM); the API speaks HTTPS when it is set."""
    tls_key_file: Path | None = None
    """Private key (PEM) of the certificate."""
    kubeconfig_out: Path | None = None
    """Where to write a kubeconfig for this API; None: nowhere."""
