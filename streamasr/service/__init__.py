"""streamasr.service"""
