"""`/openapi/v2`: a document without paths, for the one thing that clients still ask of it. (pure)

`kubectl` reads it when the OpenAPI v3 document of a group version does not know a kind. From a
server without one it concludes that nothing can be validated, and advises to turn validation off;
from one that says nothing of the kind it goes on, and finds that there is no such kind. What kinds
there are and what their fields mean is in v3 alone.
"""

from headrace import __version__
from headrace.codec.objects import write_object

ASKED_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What Kubernetes' Go client accepts, and nothing else."""
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""How a Kubernetes API server calls the same in its answer, since no media type may have an `@`."""

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
    """A field with a length, which must fit into one byte: everything here is a few words. Raises
    ValueError where it does not.
    """
    if len(value) > 0x7F:
        raise ValueError(f"field {number} has {len(value)} bytes; limit is {0x7F}")
    return bytes((number << 3 | _LENGTH_DELIMITED, len(value))) + value
