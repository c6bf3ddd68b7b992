"""One reader of a channel topic for all subscriptions of a process: each record is read and
filtered once, and each subscription keeps a consumer group of its own for its offsets.
"""
