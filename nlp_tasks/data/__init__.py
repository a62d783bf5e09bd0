"""Rows and where they came from; splits; the encoded store; batches."""
