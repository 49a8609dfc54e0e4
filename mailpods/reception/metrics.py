"""What is counted of messages that are taken in. The text of each metric is its documentation."""

from prometheus_client import Counter, Histogram

DISCARDED = Counter(
    "mail_smtp_discarded", "Recipients that were taken and thrown away, as a rule of the lists says."
)
FAULTS = Counter(
    "mail_smtp_faults",
    "Failures of the program itself while it served a client, who was told an id that the log has.",
)
ACCEPTED = Counter("mail_smtp_accepted", "Messages that got their 250: they are on disk, synced.")
SIGNED = Counter("mail_smtp_signed", "Messages that were signed with their domain's DKIM keys.")
SEALED = Counter("mail_smtp_sealed", "Messages of strangers that were sealed by ARC to be passed on.")
ACCEPTED_BYTES = Counter("mail_smtp_accepted_bytes", "Size of the messages that got their 250, as they came.")
COMMIT = Histogram(
    "mail_smtp_commit_seconds",
    "Time from the end of a message's text to its 250: what the spool takes to have it on disk.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
