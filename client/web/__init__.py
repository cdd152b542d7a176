"""The captions page, served as it lies here: no build step.

It needs nothing inline and nothing from elsewhere, so that it runs under a strict
``Content-Security-Policy``.
"""
