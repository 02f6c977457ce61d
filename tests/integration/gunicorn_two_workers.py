"""A gunicorn configuration file: the number of workers is nowhere else."""

workers = 2
