"""A run of a config: jobs, loop, saving, metrics, signals, teams of processes; no flags here."""
