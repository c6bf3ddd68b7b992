"""Fuzzing of all parsers of external bytes: targets, a seed corpus, and a runner over Atheris
(`make fuzz`).
"""
