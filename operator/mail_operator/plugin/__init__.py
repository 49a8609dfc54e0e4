"""`kubectl mailpods`: asks the mail pods of a cluster through its API server."""
