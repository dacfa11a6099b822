"""Running the service: serving, forks, the command line, the job queue, logs, metrics."""
