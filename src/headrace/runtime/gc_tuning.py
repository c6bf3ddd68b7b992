"""Tunes the garbage collector of a data plane process to run seldom: events create no reference
cycles, and objects created at startup live until the process ends.
"""

import gc


async def tune_gc() -> None:
    """Configure the garbage collector, after everything has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
