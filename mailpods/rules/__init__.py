"""Who may pass what: ordered chains of pure rules, the context that they look at, and its look-ups."""
