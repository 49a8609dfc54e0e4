"""Takes mail in: a client's session, and the one pipeline that a complete message passes."""
