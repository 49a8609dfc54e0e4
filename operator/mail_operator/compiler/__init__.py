"""snapshot -> Plan, as a pure function: no clock, no network, no Kubernetes client."""
