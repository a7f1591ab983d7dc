"""The programs that are compared, each started with a configuration of the benchmark's own."""
