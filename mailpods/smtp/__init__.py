"""Speaks SMTP: listeners, sessions, AUTH, and the chain of rules that a command must pass."""
