"""Until when a certificate is good: what each program that holds one tells on its admin port."""

from pathlib import Path

from cryptography import x509

EXPIRY_NAME = "mail_tls_certificate_expiry_timestamp_seconds"
EXPIRY_HELP = "When the certificate on the volume ends, in epoch seconds; 0 where none can be read."


def expiry(path: Path) -> float:
    """The notAfter of a PEM file's first certificate, in epoch seconds; 0 if there is none. Never raises."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return 0.0
