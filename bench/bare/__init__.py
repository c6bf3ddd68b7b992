"""Programs that do as little as possible with the same libraries: the floor that the services are
compared with.
"""
