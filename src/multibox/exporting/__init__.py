"""Detectors as files that other tools run: ONNX and OpenVINO, whole or without suppression."""
