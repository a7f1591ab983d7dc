"""RFC 9111 as a shared cache, one question a file. Pure: `now` is an argument, a decision is a value."""
