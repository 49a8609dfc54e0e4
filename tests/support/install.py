"""Writes config/install.yaml from the chart, for those without Helm: `python -m tests.support.install`."""

import sys

from tests.support.helm import ROOT, sets, template

INSTALL = ROOT / "config" / "install.yaml"
_HEAD = "# Written from charts/mailpods by `python -m tests.support.install`: change the chart instead.\n"


def render() -> str:
    """The chart with its defaults, without the CRDs: config/kustomization.yaml takes those from the chart."""
    return _HEAD + template("--skip-tests", *sets(["crds.enabled=false"]))


def main() -> int:
    """Write the file."""
    INSTALL.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
