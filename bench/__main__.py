"""`./run bench`: every comparison in one run, as Markdown. Needs root, for a private Postfix."""

import argparse
import platform
import shutil
import tempfile
from pathlib import Path

from bench import accept, compiling, editing, mailbox


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each load, interleaved (default: 5)")
    options = parser.parse_args()
    tables = [compiling.run()]
    print("\n".join(tables[0]) + "\n", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="mailpods-bench-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        for part in (accept.run, mailbox.run):
            name = part.__module__.rpartition(".")[2]
            (folder / name).mkdir()
            print("\n".join(part(folder / name, options.rounds)) + "\n", flush=True)
        (folder / "editing").mkdir()
        print("\n".join(editing.run(folder / "editing")) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
