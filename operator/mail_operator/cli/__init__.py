"""The command line `mailpods`; that of `kubectl mailpods` is mail_operator/plugin."""
