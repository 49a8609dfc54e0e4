"""Takes messages from the spool to their destinations, retries, and reports failures to their senders."""
