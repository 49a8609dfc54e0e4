"""Ordered chains of pure rules: is this resource valid, and if not, why (reason, message)."""
