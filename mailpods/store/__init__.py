"""Keeps mailboxes: Dovecot's configuration and supervision, and the life cycle of mailboxes."""
