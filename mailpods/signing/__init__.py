"""Signatures on what leaves: DKIM (RFC 6376, RFC 8463)."""
