"""Synthesise training speech: select sentences, speak them with a text-to-speech voice, write a manifest."""
