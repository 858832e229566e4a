"""Work that is done beside requests: a queue in the database, and threads in every worker that take from it."""
