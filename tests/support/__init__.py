"""What tests share: a byte-exact origin, a raw client, a proxy in this process."""
