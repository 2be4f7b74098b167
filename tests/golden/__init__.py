"""What every eraser and every attack did on the tiny pipelines at one seed.

A move of code cannot change a result unseen.
"""
