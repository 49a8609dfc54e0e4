"""How the world reaches a MailServer: Services, their addresses, and who may tell clients' addresses."""

from typing import Literal

from pydantic import Field

from mail_operator.kinds.meta import RANKING, SEQUENCE, SET, Part, Rule
from mail_operator.kinds.values import Cidr, Text


class LabelExpression(Part):
    """One requirement of a label selector."""

    readable_in_part = False
    validations = (
        Rule(
            "values",
            "go with In and NotIn, and those with some: write or remove them",
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            lambda expression: (expression.operator in ("In", "NotIn")) == bool(expression.values),
        ),
    )

    key: Text = Field(description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How to compare.")
    values: list[Text] = Field(
        [], max_length=32, description="With In and NotIn: its values.", json_schema_extra=SET
    )


class LabelSelector(Part):
    """Which objects, by their labels, as elsewhere in Kubernetes; empty: all."""

    readable_in_part = False

    match_labels: dict[str, Text] = Field({}, max_length=16, description="Labels with just these values.")
    match_expressions: list[LabelExpression] = Field(
        [], max_length=16, description="What must hold for labels besides.", json_schema_extra=SEQUENCE
    )


class ProxyPods(Part):
    """Pods that may tell clients' addresses, as a NetworkPolicy selects them."""

    readable_in_part = False
    validations = (
        Rule(
            "podSelector",
            "name which pods send a PROXY header: a podSelector, a namespaceSelector, or both",
            "has(self.podSelector) || has(self.namespaceSelector)",
            lambda pods: pods.pod_selector is not None or pods.namespace_selector is not None,
        ),
    )

    namespace_selector: LabelSelector | None = Field(
        None, description="Their namespaces; blank: the MailServer's own."
    )
    pod_selector: LabelSelector | None = Field(None, description="Of those the pods; blank: all.")


class Exposure(Part):
    """How the world reaches the pods."""

    validations = (
        Rule(
            "ipFamilies",
            "names two with ipFamilyPolicy SingleStack: remove one, or choose PreferDualStack",
            "self.ipFamilyPolicy != 'SingleStack' || !has(self.ipFamilies) || size(self.ipFamilies) < 2",
            lambda exposure: exposure.ip_family_policy != "SingleStack" or len(exposure.ip_families) < 2,
        ),
    )

    type: Literal["LoadBalancer", "NodePort", "ClusterIP"] = Field(
        "LoadBalancer", description="Type of the two Services, smtp and store."
    )
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] = Field(
        "PreferDualStack",
        description="Whether the Services have an address of IPv4 and one of IPv6, as in a Service's spec.",
    )
    ip_families: list[Literal["IPv4", "IPv6"]] = Field(
        [],
        max_length=2,
        description="Which of them, the first one first; blank: the cluster's.",
        json_schema_extra=RANKING,
    )
    external_traffic_policy: Literal["Local", "Cluster"] = Field(
        "Local",
        description="Cluster hides clients' addresses: relay rules and LAN-only services lose sense.",
    )
    annotations: dict[str, Text] = Field(
        {}, max_length=32, description="Annotations of the Services, which load balancers read."
    )
    load_balancer_class: Text | None = Field(None, description="Which load balancer; blank: the cluster's.")
    proxies: list[Cidr] = Field(
        [],
        max_length=64,
        description="Load balancers that send a PROXY header. Where any is named, here or in `proxyPods`, "
        "there are ports that want one: Services lead to those, and nobody else reaches them.",
        json_schema_extra=SET,
    )
    proxy_pods: list[ProxyPods] = Field(
        [],
        max_length=16,
        description="Pods that send a PROXY header, beside the networks of `proxies`.",
        json_schema_extra=SEQUENCE,
    )
    host_ports: bool = Field(
        False,
        description="Bind the standard ports on the nodes, too: one pod of a kind on each. Pod Security "
        "baseline and restricted forbid it.",
    )
