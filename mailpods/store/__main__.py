"""The store program: writes what Dovecot needs from the credentials, runs it, and keeps mailboxes in order.

Role `store` serves IMAP, POP3, ManageSieve and LMTP from one shard's mailboxes; role `auth` answers SMTP AUTH
over a Unix socket.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from mailpods.admin.privileges import become
from mailpods.admin.server import AdminServer
from mailpods.store.pod import StorePod


def main() -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mailpods.store", description=__doc__)
    parser.add_argument("--role", choices=("store", "auth"), required=True)
    parser.add_argument("--credentials", type=Path, required=True, help="folder of the credentials' files")
    parser.add_argument("--buckets", type=int, required=True, help="how many bucket files it has")
    parser.add_argument("--state", type=Path, required=True, help="folder for Dovecot's own files")
    parser.add_argument("--mail", type=Path, help="folder of the mailboxes (role store)")
    parser.add_argument("--tls", type=Path, help="folder with tls.crt and tls.key (role store)")
    parser.add_argument("--shard", type=int, default=0, help="which shard this is (role store)")
    parser.add_argument("--user", help="whom to become, when started as root")
    options = parser.parse_args()
    if options.role == "store" and not (options.mail and options.tls):
        parser.error("role store needs --mail and --tls")
    try:
        address = os.environ.get("BIND", "0.0.0.0")
        become(options.user)
        pod = StorePod(options)
        admin = AdminServer(address, os.environ.get("PORT_ADMIN", "9100"), pod.routes())
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        print(f"store: {error}", file=sys.stderr)
        return 1
    admin.start()
    pod.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
