"""Stored responses: a memory tier in front of one SQLite file. Every failure is a counted miss."""
