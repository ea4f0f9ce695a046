"""The pictures of lectures on generative models, each with tested numbers behind it.

A figure is a module ``fig_<name>.py`` with two functions, found by file name:

* ``compute(rng, *, quick=False)`` returns a dict of plain arrays; ``quick`` may train shorter, no more;
* ``draw(data)`` paints these arrays, and does nothing else.

Its docstring is the title (first line) and the caption. Tests check the numbers that ``compute`` returns.
"""
