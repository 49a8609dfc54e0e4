"""`python -m mail_operator.components` writes what the chart knows of components; a test compares it."""

from pathlib import Path

from mail_operator.components import COMPONENTS

METRICS = Path(__file__).parents[3] / "charts" / "mailpods" / "files" / "metrics.yaml"


def metrics() -> str:
    """The names of the ports at which PodMonitors find metrics of mail pods."""
    names = dict.fromkeys(container.admin for each in COMPONENTS for container in each.containers)
    head = "# Written from the declarations of components by `python -m mail_operator.components`.\n"
    return head + "ports:\n" + "".join(f"  - {name}\n" for name in names)


if __name__ == "__main__":
    METRICS.write_text(metrics())
