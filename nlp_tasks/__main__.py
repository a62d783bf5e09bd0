"""`python -m nlp_tasks`."""

from nlp_tasks.cli import main

main()
