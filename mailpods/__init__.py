"""Data plane of Mailpods: the programs that run in mail pods and see files only."""
