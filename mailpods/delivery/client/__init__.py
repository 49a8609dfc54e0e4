"""An own client of SMTP and LMTP: pipelined, over connections that are used again."""
