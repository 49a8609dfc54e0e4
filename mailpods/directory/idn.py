"""Domain names in the one form in which the directory has them: A-labels, in lower case."""

import codecs

import idna
import idna.uts46data

codecs.lookup("punycode")


def to_ascii(name: str) -> str:
    """A domain in A-labels (IDNA 2008; UTS 46 maps case and width, non-transitional: straße.test is not
    strasse.test). Raises ValueError for what is no name; ASCII is left as it is, but for its case."""
    if name.isascii():
        return name.lower()
    return idna.encode(name, uts46=True, transitional=False).decode().lower()
