"""`./run bench`: every comparison in one run, as Markdown. `--quick` takes fewer rounds."""

import argparse
import platform
import shutil
import tempfile
from pathlib import Path

from bench import accept, compiling


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
        print("\n".join(accept.run(folder, options.rounds)) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
