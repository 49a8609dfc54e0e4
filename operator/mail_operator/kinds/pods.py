"""What a MailServer adds to each of its pods, beside what its components declare."""

from typing import Annotated, Literal

from pydantic import Field

from mail_operator.kinds.meta import BY_NAME, LocalRef, Part, Rule
from mail_operator.kinds.values import LABEL, Text

VolumeName = Annotated[str, Field(min_length=1, max_length=50, pattern=f"^{LABEL}$")]
# Below a folder in which no component mounts anything.
MountPath = Annotated[
    str, Field(max_length=200, pattern=r"^/(etc|mnt|opt|run|srv|usr|var)(/[A-Za-z0-9._-]*[A-Za-z0-9_-])+$")
]


class EnvironmentVariable(Part):
    """A variable of all programs, as in a container's env."""

    name: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Its name."
    )
    value: Text = Field("", description="Its value. What is secret comes as a volume.")


class PodVolume(Part):
    """Files that all containers see; read-only. Where the object is missing there are none."""

    validations = (
        Rule(
            "",
            "needs configMap or secret: write one of them",
            "has(self.configMap) != has(self.secret)",
            lambda volume: (volume.config_map is None) != (volume.secret is None),
        ),
    )

    name: VolumeName = Field(description="Its name, unique among these.")
    mount_path: MountPath = Field(description="Where: below /etc, /mnt, /opt, /run, /srv, /usr or /var.")
    config_map: LocalRef | None = Field(None, description="Its files are those of this ConfigMap.")
    secret: LocalRef | None = Field(None, description="Its files are those of this Secret.")


class Pods(Part):
    """What is added to each mail pod. Where a component has something of the same name, that holds."""

    labels: dict[str, Text] = Field({}, max_length=32, description="Labels of the pods.")
    annotations: dict[str, Text] = Field({}, max_length=32, description="Annotations of the pods.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, description="When their image is pulled; blank: as Kubernetes does by default."
    )
    image_pull_secrets: list[LocalRef] = Field(
        [],
        max_length=16,
        description="Secrets with which their image is pulled.",
        json_schema_extra=BY_NAME,
    )
    env: list[EnvironmentVariable] = Field(
        [], max_length=32, description="Variables of all programs.", json_schema_extra=BY_NAME
    )
    volumes: list[PodVolume] = Field(
        [], max_length=16, description="Volumes of all containers.", json_schema_extra=BY_NAME
    )
