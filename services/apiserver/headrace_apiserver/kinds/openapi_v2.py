"""`/openapi/v2`: a document without paths, for the one case in which clients still read it. (pure)

`kubectl` reads it if the OpenAPI v3 document of a group version does not contain a kind. If the
server has no v2 document, `kubectl` concludes that nothing can be validated and advises to turn
validation off. If the document does not contain the kind, `kubectl` continues and finds that the
kind does not exist. Kinds and their fields are only in v3.
"""

from headrace import __version__
from headrace.codec.objects import write_object

ASKED_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""The only media type that Kubernetes' Go client accepts."""
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""The same type in a response of the Kubernetes API server: media types must not contain `@`."""

_TITLE = "Headrace"
_SWAGGER = "2.0"
_DOCUMENT_SWAGGER, _DOCUMENT_INFO, _DOCUMENT_PATHS = 1, 2, 8
_INFO_TITLE, _INFO_VERSION = 1, 2
_LENGTH_DELIMITED = 2


def v2_json() -> bytes:
    """The document in JSON."""
    return write_object(
        {"swagger": _SWAGGER, "info": {"title": _TITLE, "version": __version__}, "paths": {}}
    )


def v2_protobuf() -> bytes:
    """The document as the message `openapi.v2.Document` (gnostic's `OpenAPIv2.proto`, which numbers
    the fields).
    """
    info = _field(_INFO_TITLE, _TITLE.encode()) + _field(_INFO_VERSION, __version__.encode())
    return (
        _field(_DOCUMENT_SWAGGER, _SWAGGER.encode())
        + _field(_DOCUMENT_INFO, info)
        + _field(_DOCUMENT_PATHS, b"")
    )


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of at most 127 bytes, so that the length is one byte. Raises
    ValueError for a longer one.
    """
    if len(value) > 0x7F:
        raise ValueError(f"field {number} has {len(value)} bytes; limit is {0x7F}")
    return bytes((number << 3 | _LENGTH_DELIMITED, len(value))) + value
