"""CamelSource: routes of Apache Camel, which runs beside this process and posts to it."""
