"""One process, or a supervisor with a keeper of the store and several workers: one proxy in every case."""
