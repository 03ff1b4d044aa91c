"""Background work: a supervisor, and one child process per job."""
