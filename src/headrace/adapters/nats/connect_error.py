"""The text of an error of the connection, with the setting that may be the cause."""

import ssl

from headrace.adapters.nats.options import NatsOptions

_NAME_MISMATCH = frozenset({62, 64})
"""`X509_V_ERR_HOSTNAME_MISMATCH` and `X509_V_ERR_IP_ADDRESS_MISMATCH` of OpenSSL."""


def connect_error_text(error: Exception, options: NatsOptions) -> str:
    """Return what an operator reads about an error; without secrets."""
    text = str(error) or type(error).__name__
    cause = _cause(error, text, options)
    return f"{text}; {cause}" if cause else text


def _cause(error: Exception, text: str, options: NatsOptions) -> str:
    match error:
        case ssl.SSLCertVerificationError() if error.verify_code in _NAME_MISMATCH:
            return "the server's certificate is not for the host in HEADRACE_NATS_SERVERS"
        case ssl.SSLCertVerificationError():
            return (
                "HEADRACE_NATS_CA_FILE must have the CA that signed the server's certificate"
                if options.ca_file is not None
                else "set HEADRACE_NATS_CA_FILE if the server's certificate is signed by a CA that"
                " the system does not know"
            )
        case ssl.SSLError() if "ALERT" in (error.reason or ""):
            return (
                "the server does not accept the certificate in HEADRACE_NATS_CERTIFICATE_FILE"
                if options.certificate_file is not None
                else "the server wants a certificate: set HEADRACE_NATS_CERTIFICATE_FILE and"
                " HEADRACE_NATS_KEY_FILE"
            )
    if "authorization violation" in text.lower():
        return f"the server does not accept {_credentials(options)}"
    return ""


def _credentials(options: NatsOptions) -> str:
    """By the order in which the client uses them."""
    if options.credentials_file is not None:
        return "the user in HEADRACE_NATS_CREDENTIALS_FILE"
    if options.user is not None:
        return "HEADRACE_NATS_USER with the password in HEADRACE_NATS_PASSWORD_FILE"
    if options.token is not None:
        return "the token in HEADRACE_NATS_TOKEN_FILE"
    return (
        "a connection without credentials: set HEADRACE_NATS_USER and HEADRACE_NATS_PASSWORD_FILE,"
        " HEADRACE_NATS_TOKEN_FILE or HEADRACE_NATS_CREDENTIALS_FILE"
    )
