"""The command line `kubectl mailpods`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from mail_operator.local import checking, questions
from mail_operator.local.questions import CommandError
from mail_operator.plugin.kubectl import Cluster


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for findings and failures, 2 for wrong use."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except CommandError as error:
        print(f"mailpods: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    # Before the command or after it, as kubectl takes them; suppressed, so that the latter blanks no former.
    where = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    where.add_argument("--context", help="the context of the kubeconfig")
    where.add_argument("--kubeconfig", metavar="FILE", help="the kubeconfig (default: as kubectl)")
    which = where.add_mutually_exclusive_group()
    which.add_argument("-n", "--namespace", help="of the MailServer (default: the context's)")
    which.add_argument("-A", "--all-namespaces", action="store_true", help="of all MailServers")
    parser = argparse.ArgumentParser(
        prog="kubectl mailpods", description="Ask the mail pods of a cluster.", parents=[where]
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[where])
        sub.set_defaults(run=run)
        return sub

    queue = command("queue", _queue, "List, show, retry, hold, release, divert or delete what is queued.")
    questions.add_queue(queue)
    suppressed = command(
        "suppressions", _suppressions, "Show or change whom the bulk pool sends nothing any more."
    )
    questions.add_suppressions(suppressed)
    explain = command(
        "explain", _explain, "Say where an address leads, or what becomes of a message, and why."
    )
    questions.add_explain(explain)
    check = command("check", lambda options: checking.check(options.paths), "Say what is wrong in manifests.")
    check.add_argument("paths", nargs="+", type=Path, metavar="DIR|FILE")
    return parser


def _cluster(options: argparse.Namespace) -> Cluster:
    given = vars(options)
    flags = [f"--{name}={given[name]}" for name in ("context", "kubeconfig") if name in given]
    if "all_namespaces" in given:
        return Cluster(flags, ["--all-namespaces"])
    return Cluster(flags, ["--namespace", given["namespace"]] if "namespace" in given else [])


def _queue(options: argparse.Namespace) -> int:
    cluster = _cluster(options)
    questions.queue(options, cluster.ask)
    return _told(cluster)


def _suppressions(options: argparse.Namespace) -> int:
    cluster = _cluster(options)
    questions.suppressions(options, lambda path, method, query: cluster.ask(path, method, query, "bulk"))
    return _told(cluster)


def _explain(options: argparse.Namespace) -> int:
    """One pod of each MailServer is asked: the first that answers."""
    cluster, question = _cluster(options), questions.explanation(options)
    pods = cluster.pods()
    servers = dict.fromkeys((pod.namespace, pod.server) for pod in pods)
    silent = 0
    for server in servers:
        heading = f"MailServer {server[0]}/{server[1]}:\n" if len(servers) > 1 else ""
        of_server = (pod for pod in pods if (pod.namespace, pod.server) == server)
        answers = (cluster.ask_pod(pod, "/explain", "GET", question) for pod in of_server)
        lines = next((answer for answer in answers if answer is not None), None)
        if lines is None:
            silent += 1
        else:
            print(heading + "\n".join(lines))
    return _told(cluster) if silent else 0


def _told(cluster: Cluster) -> int:
    for failure in dict.fromkeys(cluster.failures):
        print(f"mailpods: {failure}", file=sys.stderr)
    return 1 if cluster.failures else 0


if __name__ == "__main__":
    sys.exit(main())
