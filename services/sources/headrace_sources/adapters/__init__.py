"""The adapters: one module for each outside system. A module is imported when it is first used."""
