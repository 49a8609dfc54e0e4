"""The contract between control plane and mail pods: records in files, and their hot-reloading readers.

The control plane writes one JSON file per bucket; mail pods read them and report the hash of what they
loaded. Nothing here knows Kubernetes, SMTP or Dovecot.
"""
