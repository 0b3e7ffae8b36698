"""ONNX's own backend test data, each case taken through a document and back, and run."""
