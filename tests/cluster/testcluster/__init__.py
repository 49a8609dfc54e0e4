"""A one-node Kubernetes cluster of ordinary processes, for machines without Docker.

Everything of it, network traffic included, stays in a network namespace of its own. It needs root.
"""
