"""Before a pod goes, what still waits in its spools moves to another smtp pod, which may stay for longer.

A pod that leaves for good would take its queue with it, onto a volume that nobody reads. Pods do not know who
leaves for good, so each one does it; where there is no other pod, the queue waits for the next start.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Sequence

from mailpods.admin import parcels
from mailpods.admin.peers import Failures
from mailpods.admin.server import Request, Response
from mailpods.spool.view import QueueView


def hand_over(
    views: Sequence[QueueView], peers: Sequence[str], key: str, seconds: float, log: Callable[[str], None]
) -> tuple[int, int]:
    """Move all messages to the first of `peers` (host:port) that takes them, in at most `seconds`.

    Nobody else may have the spools open. Returns how many went, and how many stay.
    """
    until, moved, left = time.monotonic() + seconds, 0, 0
    willing = list(peers)
    for view in views:
        for id in view.ids():
            while willing and time.monotonic() < until:
                try:
                    parcels.give(willing[0], key, *view.whole(id))
                    view.forget(id)  # not before: a crash in between delivers twice, and loses nothing
                except KeyError:
                    break  # an administrator deleted it meanwhile
                except sqlite3.Error as error:
                    log(f"queue: {id} stays: {error}")
                    left += 1
                    break
                except Failures as error:
                    log(f"{willing.pop(0)} does not take the queue: {error}")
                else:
                    moved += 1
                    break
            else:
                left += 1
    if moved or left:
        log(f"queue: {moved} messages went to other pods, {left} stay")
    return moved, left


def adopt(request: Request, key: str | None, view: QueueView) -> Response:
    """The other side: takes a message whose sender knows the installation's key."""
    if not request.bears(key):
        return Response.text("this takes the installation's own key", 403)
    line, _, body = request.body.partition(b"\n")
    try:
        view.adopt(json.loads(line), body)
    except (KeyError, TypeError, ValueError) as error:
        return Response.text(f"not a message: {error!r}", 400)
    except (OSError, sqlite3.Error) as error:
        return Response.text(str(error), 507)
    return Response.json({"adopted": True})
