"""`python -m bench.sources`, a part of `make bench`: 1 KiB events from outside systems into a
Broker, by one process of the sources service on one machine.

Each kind of source has a process of the service to itself, so that memory is that of the kind. CPU
per event is user and system time of this process alone. An outside system that is slow, because it
was written for tests or shares the two cores, limits events per second and not CPU per event. A
source that is not busy most of the time was limited by what it reads from, and the table says so.

CPU per event includes what the process spends without events, which is a row of its own: of sources
that send a few hundred events per second it is a part.

The Broker's topic is in the Kafka of the installation, and nothing reads it. A kind whose outside
system cannot run here is in the table too, with the reason.
"""
