"""An adapter: the sources service creates it, runs it, restarts it and delivers its events."""

import asyncio
import json
import random

from pydantic import Field

from headrace_sources.source import Emit, SourceConfig, SourceContext, new_event


class WeatherConfig(SourceConfig):
    city: str
    seconds: float = Field(default=1.0, ge=0.1)


class WeatherSource:
    Config = WeatherConfig

    def __init__(self, config: WeatherConfig, context: SourceContext) -> None:
        self.config = config

    async def run(self, emit: Emit) -> None:
        while True:
            data = json.dumps({"city": self.config.city, "degrees": random.randint(-5, 35)})
            await emit(new_event("com.example.weather", "/weather", data.encode()))
            await asyncio.sleep(self.config.seconds)
