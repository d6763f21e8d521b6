"""A loaded model computed by PyTorch, ONNX Runtime or OpenVINO, whichever is the fastest here."""
