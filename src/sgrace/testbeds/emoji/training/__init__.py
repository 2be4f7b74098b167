"""How the built-in model is trained; nothing here is imported at run time."""
