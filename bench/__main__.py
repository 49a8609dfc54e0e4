"""`./run bench [PART…]`: every comparison in one run, as Markdown. Needs root, for a private Postfix."""

import argparse
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import accept, compiling, editing, large, mailbox, outgoing, signed, signing

PARTS: dict[str, Callable[[Path, int], list[str]]] = {
    "compiling": lambda folder, rounds: compiling.run(),
    "accept": accept.run,
    "mailbox": mailbox.run,
    "large": lambda folder, rounds: large.run(folder),
    "outgoing": outgoing.run,
    "signed": signed.run,
    "signing": lambda folder, rounds: signing.run(),
    "editing": lambda folder, rounds: editing.run(folder),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="of each load, interleaved (default: 5)")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    folder = Path(tempfile.mkdtemp(prefix="mp-", dir="/var/tmp"))  # short: sockets lie below it
    folder.chmod(0o755)
    try:
        for name in options.parts or PARTS:
            (folder / name).mkdir()
            print("\n".join(PARTS[name](folder / name, options.rounds)) + "\n", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
