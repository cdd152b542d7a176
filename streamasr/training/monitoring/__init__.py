"""What a training run tells: its events, and who shows them (terminal, TensorBoard, a page)."""
