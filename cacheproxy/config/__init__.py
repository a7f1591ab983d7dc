"""Settings: each declared once, with type, default, unit and help; read from TOML and -o."""
