"""What replies mean, and what follows from them: results in the spool, notifications, reports."""
