"""Bytes by project and SHA-256 on a local disk, and the signed URLs that open them."""
