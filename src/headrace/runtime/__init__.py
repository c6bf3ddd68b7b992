"""What every service shares and no rule of the domain needs: life cycle, health, metrics, logging,
settings.
"""
