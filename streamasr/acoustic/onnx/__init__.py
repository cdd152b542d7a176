"""Export an encoder's streaming step as an ONNX graph, quantise it, check it, and run it with ONNX Runtime.

Import the modules separately: running needs onnxruntime only, exporting also needs onnx and onnxscript.
"""
