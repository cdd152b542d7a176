"""Hold the systemd units and their settings, for ``streamasr install-service``."""
