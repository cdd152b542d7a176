"""streamasr.protocol"""
