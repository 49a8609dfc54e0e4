"""snapshot -> Plan by compiling.compile(), a pure function: no clock, no network, no Kubernetes client."""
