"""The performance benchmark: this proxy beside its peers, interleaved in the same run."""
