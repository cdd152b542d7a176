"""streamasr.acoustic"""
