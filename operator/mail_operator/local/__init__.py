"""Runs a Plan as processes on this machine, without a cluster."""
