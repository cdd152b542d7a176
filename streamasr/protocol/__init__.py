"""The native protocol, sans-I/O: one vocabulary for daemon and clients."""
