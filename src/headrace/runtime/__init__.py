"""Code that all services share and that does not depend on domain rules: life cycle, health,
metrics, logging, settings.
"""
