"""One exchange: asks the pure decisions what to do and performs it over the ports. A file per flow."""
