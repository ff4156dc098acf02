"""The command line of splatdream: reads flags and the environment, draws with rich."""
