"""Says where recipients lead: mailbox, alias, catch-all, smarthost, or nowhere, and why."""
