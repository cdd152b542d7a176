"""Serve the engine over websockets and HTTP: connections, authentication, metrics, signals, on one event loop."""
