"""ARC (RFC 8617): what a forwarder found about a message before it passed it on, sealed by its domain."""

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from typing import Literal

import dkim as verifier  # type: ignore[import-untyped]

from mailpods.directory.records import DkimKey
from mailpods.message import dkim

Chain = Literal["none", "pass", "fail"]
MAX_INSTANCES = 50  # sets of one message (§4.2.1)
MAX_SIGNATURES = 5  # that are looked at
AUTHENTICATION_RESULTS = "arc-authentication-results"
MESSAGE_SIGNATURE, SEAL = "arc-message-signature", "arc-seal"
SIGNED = (*dkim.SIGNED, "dkim-signature")
logging.getLogger("dkimpy").setLevel(logging.CRITICAL)  # what strangers sign is no fault of ours
_INSTANCE = re.compile(rb"(?:^|[:;])\s*i\s*=\s*(\d+)")
_SAFE = re.compile(r"[^A-Za-z0-9._-]")
Texts = Callable[[bytes], bytes | None]  # the TXT record of a name, as dkimpy asks for it


def findings(message: bytes, texts: Texts) -> tuple[Chain, list[str]]:
    """The state of a message's chain, and what is to be said of its signatures (RFC 8601 §2.7)."""

    def asked(name: bytes, timeout: int = 5) -> bytes | None:
        return texts(name)

    found = []
    names = [name.lower() for name, _ in verifier.DKIM(message).headers]
    for number in range(min(names.count(b"dkim-signature"), MAX_SIGNATURES)):
        found.append(_verified(message, number, asked))
    if not found:
        found.append("dkim=none")
    if SEAL.encode() not in names:
        return "none", [*found, "arc=none"]
    try:
        state, _, _ = verifier.arc_verify(message, dnsfunc=asked)
        chain: Chain = "pass" if state == verifier.CV_Pass else "fail"
    except Exception:  # of what others wrote: a chain that cannot be read has failed
        chain = "fail"
    return chain, [*found, f"arc={chain}"]


def _verified(message: bytes, number: int, texts: Callable[..., bytes | None]) -> str:
    """What is to be said of one signature."""
    signature = verifier.DKIM(message)
    fields = [value for name, value in signature.headers if name.lower() == b"dkim-signature"]
    tags = {
        tag: value for tag, _, value in (part.strip().partition(b"=") for part in fields[number].split(b";"))
    }
    about = f"header.d={_word(tags.get(b'd', b''))} header.s={_word(tags.get(b's', b''))}"
    if tags.get(b"a", b"").strip() != b"rsa-sha256":
        return f"dkim=neutral {about}"  # Ed25519 would need a library more; its signers sign by RSA, too
    try:
        result = "pass" if signature.verify(number, dnsfunc=texts) else "fail"
    except verifier.ValidationError:
        result = "fail"
    except verifier.DKIMException:
        result = "permerror"
    except Exception:  # DNS is silent, or a library stumbles over what others wrote
        result = "temperror"
    return f"dkim={result} {about}"


def _word(data: bytes) -> str:
    return _SAFE.sub("?", data.decode("ascii", "replace").strip())[:253] or "?"


def seal(
    header: bytes,
    body: Sequence[bytes],
    host: str,
    domain: str,
    key: DkimKey,
    found: tuple[Chain, Sequence[str]],
    now: float,
) -> bytes:
    """The three fields of a new set (§5.1), with CRLF, for the front of the message; `host` is our name.

    b"" where the chain has no room, or is one that a forwarder before us found broken (§5.1.2). Raises
    ValueError for a key that is none, or no RSA key: §4.1.2 knows no other algorithm.
    """
    if key.algorithm != "rsa":
        raise ValueError(f"DKIM key {key.selector}: ARC needs an RSA key")
    there = dkim.fields(header)
    sets = _sets(there)
    chain, results = found
    number = max(sets, default=0) + 1
    if number > MAX_INSTANCES or any(b"cv=fail" in line.replace(b" ", b"") for _, line in _seals(sets)):
        return b""
    about = f"ARC-Authentication-Results: i={number}; {host};\r\n\t" + ";\r\n\t".join(results)
    body_hash = base64.b64encode(hashlib.sha256(dkim.relaxed_body(body)).digest()).decode()
    names, lines = dkim.chosen(there, SIGNED)
    common = [f"i={number}", "a=rsa-sha256"]
    where = [f"d={domain}", f"s={key.selector}", f"t={int(now)}"]
    tags = [*common, "c=relaxed/relaxed", *where, f"h={':'.join(names)}", f"bh={body_hash}"]
    signature = dkim.signed_field("ARC-Message-Signature", tags, key, lines)
    new = [dkim.fields(part)[0] for part in (about.encode(), signature.removesuffix(b"\r\n"))]
    # Over a broken chain only the own set is sealed: nobody can say what the others were (§5.1.2).
    before = [] if chain == "fail" else [line for n in sorted(sets) for _, line in sets[n]]
    sealed = b"\r\n".join((*before, *(line for _, line in new), b""))
    tags = [*common, f"cv={chain}", *where]
    return dkim.signed_field("ARC-Seal", tags, key, sealed) + signature + about.encode() + b"\r\n"


def _sets(there: Sequence[tuple[str, bytes]]) -> dict[int, list[tuple[str, bytes]]]:
    """Instance -> its three fields, in the order in which they are sealed."""
    order = (AUTHENTICATION_RESULTS, MESSAGE_SIGNATURE, SEAL)
    sets: dict[int, list[tuple[str, bytes]]] = {}
    for name, line in there:
        found = _INSTANCE.search(line) if name in order else None
        if found:
            sets.setdefault(int(found[1]), []).append((name, line))
    return {n: sorted(fields, key=lambda field: order.index(field[0])) for n, fields in sets.items()}


def _seals(sets: dict[int, list[tuple[str, bytes]]]) -> list[tuple[str, bytes]]:
    return [field for fields in sets.values() for field in fields if field[0] == SEAL]
