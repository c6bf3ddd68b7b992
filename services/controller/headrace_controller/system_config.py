"""Reads the ConfigMaps that apply to all resources. An invalid one is reported, and its last valid
content stays in effect.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from headrace.adapters.manifests import InvalidManifest, read_manifests
from headrace.domain.field_errors import FieldError, render
from headrace.resources import config_maps
from headrace.resources.broker_defaults import (
    DEFAULTS_CONFIG_MAP,
    DEFAULTS_KEY,
    BrokerDefaults,
    read_defaults,
)
from headrace.resources.features import FEATURES_CONFIG_MAP, Features, read_features
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
        if found := self._changed(DEFAULTS_CONFIG_MAP):
            defaults, errors = _read_defaults(found[0])
            self._accept(DEFAULTS_CONFIG_MAP, render(errors), defaults=None if errors else defaults)
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

    def _accept(
        self,
        name: str,
        problem: str,
        *,
        features: Features | None = None,
        defaults: BrokerDefaults | None = None,
    ) -> None:
        config = SystemConfig(
            features or self._config.features, defaults or self._config.broker_defaults
        )
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
    if errors or (config_map.namespace, config_map.name) != (SYSTEM_NAMESPACE, DEFAULTS_CONFIG_MAP):
        return errors
    return _read_defaults(config_map.object.get("data") or {})[1]


def _read_defaults(data: Mapping[str, Any]) -> tuple[BrokerDefaults, list[FieldError]]:
    where = f"data.{DEFAULTS_KEY}"
    try:
        defaults, errors = read_defaults(_document(data))
    except InvalidManifest as error:
        return BrokerDefaults(), [FieldError(f"invalid value: {error}", (where,))]
    return defaults, [each.under(where) for each in errors]


def _document(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The YAML document in a ConfigMap; empty if there is none. Raises InvalidManifest."""
    documents = read_manifests(str(data.get(DEFAULTS_KEY) or "").encode(), DEFAULTS_KEY)
    if len(documents) > 1:
        raise InvalidManifest(f"{documents[1].place}: expected one document")
    return documents[0].document if documents else {}
