"""HTTP syntax as values (RFC 9110, 9112). Pure: no I/O, no clock, no logging."""
