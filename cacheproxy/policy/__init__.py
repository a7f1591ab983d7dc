"""This site's rules, as pure decisions: who may use the proxy, where it may go."""
