"""The garbage collector of a data plane process: it looks seldom, for an event leaves no cycles and
what starts lives to the end.
"""

import gc


async def tune_gc() -> None:
    """Set it up, once everything has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
