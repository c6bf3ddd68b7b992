"""Runs the adapter `container` in a process of its own, for tests that kill it:
`python -m tests.support.container_starter CONFIG MODE UID`.
"""

import asyncio
import sys

from headrace.runtime.clock import SystemClock
from headrace_sources.adapters.container.config import ContainerConfig
from headrace_sources.adapters.container.source import ContainerSource
from headrace_sources.settings import ContainersMode, SourcesSettings
from tests.support.sources import RecordingContext, RecordingEmit

if __name__ == "__main__":
    config, mode, uid = sys.argv[1:]
    context = RecordingContext(
        uid=uid,
        clock=SystemClock(),
        settings=SourcesSettings(containers=ContainersMode(mode)),
    )
    source = ContainerSource(ContainerConfig.model_validate_json(config), context)
    asyncio.run(source.run(RecordingEmit()))
