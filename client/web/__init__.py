"""Hold the files of the captions page, which the daemon serves as they are, without a build step.

The page has no inline code and loads nothing from other hosts, so it works with a strict
``Content-Security-Policy``.
"""
