"""Commands: parse, call, print. Exit codes: 0 done, 1 failed or nothing matched, 2 usage, 3 not running, 4 problems found."""
