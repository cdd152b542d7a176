"""streamasr.frontend"""
