"""The types of fields: quantities, addresses, names, dates, texts, each as the API server checks it, too."""

import ipaddress
import re
from datetime import date
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

# Kubernetes' grammar of quantities (apimachinery, pkg/api/resource), less those below nothing.
QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$"
_PREFIXES = {prefix: n for n, prefix in enumerate("kMGTPE", 1)}
_UNITS = {"": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
_UNITS |= {prefix: Decimal(1000) ** n for prefix, n in _PREFIXES.items()}
_UNITS |= {f"{prefix.upper()}i": Decimal(1024) ** n for prefix, n in _PREFIXES.items()}
INT64 = 2**63 - 1
MOST = 1_000_000_000  # of what somebody sets as a number


def quantity_bytes(text: str) -> int:
    """A Kubernetes quantity in bytes: 50M is 50,000,000, 2Gi is 2 GiB.

    As there, parts of a byte count as one, and what is beyond 64 bits is the largest of them.
    """
    number, unit = re.fullmatch(r"([+0-9.]+)(.*)", text).groups()  # type: ignore[union-attr]
    factor = Decimal(f"1{unit}") if unit[:1] in ("e", "E") and unit != "E" and unit != "Ei" else _UNITS[unit]
    return min(int((Decimal(number) * factor).to_integral_value(ROUND_CEILING)), INT64)


def _quantity(value: object) -> object:
    """A whole number is a quantity, too; here it is its text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise ValueError("is a fraction: write it in quotes, or with a smaller unit")
    return value


def _network(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f.:]+/(0|[1-9][0-9]*)", text):
        raise ValueError("is no IPv4 or IPv6 network, e.g. 192.0.2.0/24")
    network = ipaddress.ip_network(text, strict=False)
    _address(str(network.network_address))
    return str(network)


def _address(text: str) -> str:
    """As the API server reads addresses: without a zone, and IPv4 as IPv4."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError("is an address of one machine's own: write one that others know")
    return str(address)


def _resolver(text: str) -> str:
    address, colon, port = text.partition(":")
    if "." not in address or "::" in text:
        return _address(text)
    if colon and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError("has no port behind the colon: write one from 1 to 65535, or no colon")
    return _address(address) + colon + port


def _date(text: str) -> str:
    date.fromisoformat(text)
    return text


# What Dovecot calls its password schemes (doveadm pw -l, and those kept for old hashes).
_SCHEMES = (
    "ARGON2I ARGON2ID BLF-CRYPT CLEAR CLEARTEXT CRAM-MD5 CRYPT DES-CRYPT DIGEST-MD5 HMAC-MD5 LANMAN LDAP-MD5 "
    "MD5 MD5-CRYPT NTLM PBKDF2 PLAIN PLAIN-MD4 PLAIN-MD5 PLAIN-TRUNC SCRAM-SHA-1 SCRAM-SHA-256 SHA SHA1 "
    "SHA256 SHA256-CRYPT SHA512 SHA512-CRYPT SMD5 SSHA SSHA256 SSHA512"
)
PASSWORD_HASH = rf"^\{{({_SCHEMES.replace(' ', '|')})(\.(HEX|B64|BASE64))?\}}[^\x00-\x1f\x7f]+$"
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
Domain = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^({LABEL}\.)+{LABEL}$")]
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^{LABEL}(\.{LABEL})*$")]
LocalPart = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_+=~-]+(\.[a-z0-9_+=~-]+)*$")]
EmailAddress = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^@\s]{1,64}@[a-z0-9.-]+$")]
Quantity = Annotated[
    str,
    Field(max_length=40, pattern=QUANTITY, json_schema_extra={"x-kubernetes-int-or-string": True}),
    BeforeValidator(_quantity),
]


def _cel(rule: str, message: str) -> dict[str, Any]:
    """What the API server asks of a text, beside its pattern; AfterValidator asks the same."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}


_IS_CIDR = _cel("isCIDR(self)", "is no network, e.g. 192.0.2.0/24")
Cidr = Annotated[
    str, Field(min_length=3, max_length=43, json_schema_extra=_IS_CIDR), AfterValidator(_network)
]
_IS_IP = _cel("isIP(self)", "is no IPv4 or IPv6 address")
Address = Annotated[
    str, Field(min_length=2, max_length=45, json_schema_extra=_IS_IP), AfterValidator(_address)
]
_IS_RESOLVER = _cel(
    "isIP(self) || (self.matches('^[0-9.]+:[0-9]{1,5}$') && isIP(self.split(':')[0])"
    " && int(self.split(':')[1]) > 0 && int(self.split(':')[1]) < 65536)",
    "is no address, of IPv4 with a port or without, e.g. 192.0.2.53:53",
)
Resolver = Annotated[
    str, Field(min_length=2, max_length=60, json_schema_extra=_IS_RESOLVER), AfterValidator(_resolver)
]
HttpsUrl = Annotated[
    str, Field(max_length=200, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?$")
]
Text = Annotated[str, Field(max_length=1000)]
Endpoints = Annotated[dict[str, Text], Field(max_length=32)]
LONGEST_MESSAGE = 32768  # characters, of metav1.Condition
LongText = Annotated[str, Field(max_length=LONGEST_MESSAGE)]
Date = Annotated[
    str,
    Field(max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", json_schema_extra={"format": "date"}),
    AfterValidator(_date),
]
Generation = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
