"""The training corpus of quipu's built-in tiny models: stories and chats of a small closed world.

Everything is made by rule from the word lists and templates of this package, with one seed.
Run `python -m corpus --help` from the folder above.
"""
