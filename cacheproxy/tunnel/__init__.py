"""CONNECT: bytes both ways, uncached (RFC 9110 §9.3.6)."""
