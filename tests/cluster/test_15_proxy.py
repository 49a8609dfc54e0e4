"""Clients behind a load balancer, on a cluster: the same end-to-end test on both runtimes."""

from tests.cluster.outside import NEEDED
from tests.local import test_proxy
from tests.local.test_proxy import *  # noqa: F403

pytestmark = NEEDED
# Here NetworkPolicies say who is a proxy; the node, from which these tests come, is let in by all of them.
del globals()[test_proxy.test_who_is_no_proxy_of_the_server_s_tells_nobody_s_address.__name__]
