"""Translate other vendors' protocols to native messages and back, without I/O."""
