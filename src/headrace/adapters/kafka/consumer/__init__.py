"""The consumer side: one member of a consumer group for each feed, its thread, flow control and
commits.
"""
