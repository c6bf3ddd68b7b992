"""Reads the ConfigMaps that apply to all resources. An invalid one is reported, and its last valid
content stays in effect.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from headrace.adapters.manifests import InvalidManifest, read_manifests
from headrace.domain.field_errors import FieldError, render
from headrace.resources import config_maps
from headrace.resources.broker_defaults import DEFAULTS_CONFIG_MAP
from headrace.resources.broker_defaults import read_defaults as read_broker_defaults
from headrace.resources.channel_defaults import CHANNEL_DEFAULTS_CONFIG_MAP
from headrace.resources.channel_defaults import read_defaults as read_channel_defaults
from headrace.resources.features import FEATURES_CONFIG_MAP, read_features
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Reference, Resource
from headrace.resources.system_config import BUILT_IN, SYSTEM_NAMESPACE, SystemConfig

logger = structlog.get_logger(__name__)

Find = Callable[[Reference], Resource | None]


class SystemConfigReader:
    """Keeps the last valid content. The value stays the same object while nothing changes, so that
    callers can cache what they derive from it.
    """

    def __init__(self, find: Find) -> None:
        """`find` returns an object of the store, as `ResourceStore.find` does."""
        self._find = find
        self._last_data: dict[str, Mapping[str, Any] | None] = {}
        self._config = SystemConfig()
        self.problems: dict[str, str] = {}
        """What is wrong, by name of the ConfigMap."""

    def read(self) -> SystemConfig:
        """The configuration in effect now."""
        if found := self._changed(FEATURES_CONFIG_MAP):
            features, errors = read_features(found[0], before=self._config.features)
            self._accept(FEATURES_CONFIG_MAP, render(errors), features=features)
        for name, field, read in _DOCUMENTS:
            if found := self._changed(name):
                defaults, errors = _read_document(found[0], name, read)
                self._accept(name, render(errors), **({} if errors else {field: defaults}))
        return self._config

    def _changed(self, name: str) -> tuple[Mapping[str, Any]] | None:
        """The ConfigMap's data if it has changed since the last read; empty if it is gone."""
        found = self._find(
            Reference(CONFIG_MAP.api_version, CONFIG_MAP.kind, SYSTEM_NAMESPACE, name)
        )
        now = found.object if found is not None else None
        if name in self._last_data and self._last_data[name] is now:
            return None
        self._last_data[name] = now
        data = (now or {}).get("data")
        return (data if isinstance(data, Mapping) else {},)

    def _accept(self, name: str, problem: str, **changed: Any) -> None:
        config = replace(self._config, **changed)
        # Caches by identity stay valid when a ConfigMap was written again without a change.
        self._config = self._config if config == self._config else config
        if problem and problem != self.problems.get(name):
            logger.warning(
                "config_map_invalid",
                namespace=SYSTEM_NAMESPACE,
                name=name,
                error=problem,
                next_step="fix the ConfigMap; its last valid content stays in effect",
            )
        if problem:
            self.problems[name] = problem
        else:
            self.problems.pop(name, None)


def validate(config_map: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """What is wrong with a ConfigMap, including the YAML document in it, so that a write can be
    rejected.
    """
    errors = config_maps.validate(config_map, system)
    if errors or config_map.namespace != SYSTEM_NAMESPACE:
        return errors
    data = config_map.object.get("data") or {}
    return [
        error
        for name, _, read in _DOCUMENTS
        if name == config_map.name
        for error in _read_document(data, name, read)[1]
    ]


_Read = Callable[[Any], tuple[Any, list[FieldError]]]
_DOCUMENTS: Sequence[tuple[str, str, _Read]] = (
    (DEFAULTS_CONFIG_MAP, "broker_defaults", read_broker_defaults),
    (CHANNEL_DEFAULTS_CONFIG_MAP, "channel_defaults", read_channel_defaults),
)
"""ConfigMap, field of `SystemConfig`, and what reads the YAML document."""


def _read_document(data: Mapping[str, Any], name: str, read: _Read) -> tuple[Any, list[FieldError]]:
    key = config_maps.DOCUMENT_KEYS[name]
    where = f"data.{key}"
    try:
        documents = read_manifests(str(data.get(key) or "").encode(), key)
        if len(documents) > 1:
            raise InvalidManifest(f"{documents[1].place}: expected one document")
    except InvalidManifest as error:
        return None, [FieldError(f"invalid value: {error}", (where,))]
    value, errors = read(documents[0].document if documents else {})
    return value, [each.under(where) for each in errors]
