"""The custom resources: one module per kind, from which crds/ is generated."""
