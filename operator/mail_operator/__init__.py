"""Control plane of Mailpods: from custom resources to a Plan, and from a Plan to a running installation."""
