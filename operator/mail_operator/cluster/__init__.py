"""Keeps a cluster as its resources say. The only room that talks to Kubernetes.

reflector   what is there: list and watch, one for each kind
world       the Snapshot made of it, with the Secrets that it names
applier     what the Plan wants there, by server-side apply, where it differs
pods        what the pods have loaded
statuses    what became of each resource, written where it differs
controller  the order of these, and when
"""
