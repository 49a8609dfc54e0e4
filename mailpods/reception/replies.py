"""What a session says of its own accord; what the rules refuse, they say themselves."""

from mailpods.refusal import Refusal

SENDER_OK = b"250 2.1.0 Ok\r\n"
RECIPIENT_OK = b"250 2.1.5 Ok\r\n"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
LOGGED_IN = b"235 2.7.0 Authentication successful\r\n"
READY_FOR_TLS = b"220 2.0.0 Go ahead\r\n"
NO_TLS_NOW = b"454 4.7.0 TLS not available now\r\n"
NO_VERIFYING = b"502 5.5.1 VRFY is off\r\n"
NOT_VERIFIED = b"252 2.5.2 Send some mail, I will try my best\r\n"
NOT_READY = b"421 4.3.2 Not ready, try again\r\n"
SHUTTING_DOWN = b"421 4.3.2 Shutting down, try again\r\n"
TOO_MANY_ERRORS = b"421 4.7.0 Too many errors\r\n"

BUSY = Refusal(452, "4.3.1", "Too much mail at once, try again", "busy")
CROWDED = Refusal(421, "4.3.2", "Too many connections", "connections", True)
TIMEOUT = Refusal(421, "4.4.2", "Timeout", "timeout", True)
TOO_SLOW = Refusal(421, "4.4.2", "Timeout: your message comes too slowly", "slow", True)
EARLY_TALKER = Refusal(554, "5.5.1", "You spoke before the greeting", "early-talker", True)
EARLY_PIPELINING = Refusal(503, "5.5.1", "Wait for the answer to your command", "early-pipelining", True)
NEEDS_TLS = Refusal(538, "5.7.11", "Encryption required: STARTTLS first", "auth-without-tls")
WRONG_LOGIN = Refusal(535, "5.7.8", "Authentication failed", "authentication-failed")
TOO_MANY_LOGINS = Refusal(421, "4.7.0", "Too many failed logins", "authentication-failed", True)
NO_LOGIN_NOW = Refusal(454, "4.7.0", "Authentication is not available now, try again", "auth-unavailable")
