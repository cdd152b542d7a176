"""Augment training audio: speed, rooms, noise, microphones, codecs, masks."""
