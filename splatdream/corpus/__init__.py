"""The procedural world: captions, the one object that each names, and what any camera sees of it."""
