"""From characters to tokens to ids, inside the graph."""
