"""The custom resources: one module per kind, from which crds/ and all that names them is generated.

`load()` refuses what the API server would refuse, in sentences that say what to do.
"""

from mail_operator.kinds.loading import Invalid, load, refused_changes
from mail_operator.kinds.meta import ObjectRef, Resource
from mail_operator.kinds.remarks import hints, pending_fields
from mail_operator.kinds.table import KINDS

__all__ = ["KINDS", "Invalid", "ObjectRef", "Resource", "hints", "load", "pending_fields", "refused_changes"]
