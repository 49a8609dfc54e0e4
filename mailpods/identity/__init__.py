"""Logins: who is right is Dovecot's to say."""
