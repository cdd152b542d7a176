"""Define the native websocket protocol for the daemon and its clients, without I/O."""
