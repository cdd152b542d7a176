"""streamasr.evaluation"""
