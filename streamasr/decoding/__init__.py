"""streamasr.decoding"""
