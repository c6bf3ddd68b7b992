"""Validation of the ConfigMaps that hold settings for all resources, when they are written, as far
as it is possible without a YAML parser.

The documents in `config-br-defaults` and `default-ch-webhook` are validated by the code that parses
them.
"""

from headrace.domain.field_errors import FieldError, missing
from headrace.resources.broker_defaults import DEFAULTS_CONFIG_MAP, DEFAULTS_KEY
from headrace.resources.channel_defaults import CHANNEL_DEFAULTS_CONFIG_MAP, CHANNEL_DEFAULTS_KEY
from headrace.resources.features import FEATURES_CONFIG_MAP, read_features
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SYSTEM_NAMESPACE, SystemConfig

DOCUMENT_KEYS = {
    DEFAULTS_CONFIG_MAP: DEFAULTS_KEY,
    CHANNEL_DEFAULTS_CONFIG_MAP: CHANNEL_DEFAULTS_KEY,
}
"""The ConfigMaps whose settings are one YAML document, and its key."""


def validate(config_map: Resource, _system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a ConfigMap of the system namespace; none for any other ConfigMap."""
    if config_map.namespace != SYSTEM_NAMESPACE:
        return []
    data = config_map.object.get("data") or {}
    if config_map.name == FEATURES_CONFIG_MAP:
        return read_features(data)[1]
    key = DOCUMENT_KEYS.get(config_map.name)
    return [missing(f"data.{key}")] if key and data and key not in data else []
