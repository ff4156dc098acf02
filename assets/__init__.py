"""What ships as data: the built-in prior, recipes and prompt lists."""
