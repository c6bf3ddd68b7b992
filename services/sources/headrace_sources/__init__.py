"""The sources service: reads events from outside systems and sends them to sinks."""
