"""The clients' side: listeners, connections (aiohttp's RequestHandler underneath), answers, error pages."""
