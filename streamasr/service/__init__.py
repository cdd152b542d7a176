"""The daemon's outside: sockets, HTTP, authentication and signals, on one event loop."""
