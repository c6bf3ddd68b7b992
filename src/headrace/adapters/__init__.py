"""The outside world behind the ports of `headrace.domain.ports`, one library a folder."""
