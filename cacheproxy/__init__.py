"""cacheproxy: a caching forward proxy that saves bandwidth."""

__version__ = "0.1.0"
