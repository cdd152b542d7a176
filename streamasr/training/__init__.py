"""streamasr.training"""
