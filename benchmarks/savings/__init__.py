"""The savings benchmark: origin bytes per delivered byte, beside Squid (WORKLOADS.md)."""
