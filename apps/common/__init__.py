"""What every application shares: command line, runs, loaders, callbacks, report, catalogue, controls."""
