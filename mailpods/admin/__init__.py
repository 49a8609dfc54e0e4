"""Each pod's own HTTP port: metrics, liveness, readiness, and what the program wants to show."""
