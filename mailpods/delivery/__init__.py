"""Mail on its way: what the spool holds, by destination and tenant, until its outcome is noted.

spool ─▶ fair queue of a destination ─▶ its ready queue, as much as it takes ─▶ replies ─▶ outcomes ─▶ spool

So one that takes nothing, or has very much to take, holds up nobody else.
"""
