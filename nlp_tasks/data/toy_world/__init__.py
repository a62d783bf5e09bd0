"""Small worlds made from a seed, one per task, each hard for the reason that its task is hard."""
