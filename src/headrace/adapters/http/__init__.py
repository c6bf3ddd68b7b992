"""HTTP/1.1 on both sides of the data plane, asyncio protocols over httptools: the only folder that
imports it.
"""
