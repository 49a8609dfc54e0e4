"""Keeps running what must run: vital tasks within a process, worker processes within a program."""
