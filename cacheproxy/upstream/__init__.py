"""The way to the origins: dialling, pooled connections, a strict response parser."""
