"""The streaming step of an encoder as an ONNX graph: made, tied to its weights, quantised, checked and run.

Each module is imported by whom it serves: running needs onnxruntime, making a graph needs onnx and onnxscript, too.
"""
