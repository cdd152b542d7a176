"""Monitor training runs: events and their observers (log, terminal, TensorBoard, HTML page)."""
