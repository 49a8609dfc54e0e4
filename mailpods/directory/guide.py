"""What the portal tells everybody of an installation. The operator hands it over in the environment."""

import json
from dataclasses import asdict, dataclass

VARIABLE = "GUIDE"


@dataclass(frozen=True, slots=True)
class Guide:
    """Facts for people who set up their mail program. Nothing in it is a secret."""

    hostname: str
    max_message_bytes: int
    tls_required: bool = True  # for a login
    bulk: bool = False  # there is a pool for mass mailings

    def encode(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def decode(cls, text: str) -> "Guide":
        """Raises ValueError or TypeError for what `encode` did not write."""
        return cls(**json.loads(text))
