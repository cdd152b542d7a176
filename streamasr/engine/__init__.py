"""streamasr.engine"""
