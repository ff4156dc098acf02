"""Looking: a page served to this machine's browser, and a running optimisation shown as it goes."""
