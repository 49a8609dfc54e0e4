"""Composition only: what runs in a pod, made of the other rooms."""
