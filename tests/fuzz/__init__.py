"""Fuzzing of everything that reads bytes from outside: targets, a seed corpus, and a runner over
Atheris (`make fuzz`).
"""
