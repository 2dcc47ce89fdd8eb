"""sessionplane: the sessions of chat and agent back ends. Importing it imports nothing else."""
