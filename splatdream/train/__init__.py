"""Training of the built-in prior and of the judges: `python -m splatdream.train --help`."""
