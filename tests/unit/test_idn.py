"""Domains of people's own scripts, as IDNA 2008 has them."""

import subprocess
import sys

import pytest

from mailpods.directory.idn import to_ascii


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("straße.test", "xn--strae-oqa.test"),  # and not strasse.test, as IDNA 2003 had it
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("A.Test", "a.test"),
        ("[IPv6:::1]", "[ipv6:::1]"),
    ],
)
def test_a_domain_in_a_labels(name: str, found: str) -> None:
    assert to_ascii(name) == found


@pytest.mark.parametrize("name", ["ü..test", "-ü.test", "\udcfc.test", "ü" * 80 + ".test", "ü b.test"])
def test_what_is_no_name_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError):
        to_ascii(name)


def test_all_that_it_needs_is_loaded_before_root_is_given_up() -> None:
    """The user that a program becomes may not be able to read Python's files."""
    code = (
        "import sys; from mailpods.directory.idn import to_ascii; sys.meta_path.clear()\n"
        "print(to_ascii('stra\\u00dfe.test'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "xn--strae-oqa.test\n"
