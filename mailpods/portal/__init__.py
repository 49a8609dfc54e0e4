"""The portal: pages that everybody may read. It knows no account, no key and no password."""
