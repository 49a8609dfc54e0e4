"""snapshot -> Plan, as a pure function: no clock, no network, no Kubernetes client."""

from mail_operator.compiler.compiling import compile

__all__ = ["compile"]
