"""Exported models over HTTP, by the REST interface of TensorFlow Serving, and on a page for people."""
