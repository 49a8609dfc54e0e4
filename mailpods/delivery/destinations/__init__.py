"""Where mail can go: each destination is a value that knows how it is connected to and waited for."""
