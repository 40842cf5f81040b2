"""Pictures as SVG, by hand: colours are the page's variables, so that one picture serves light and dark.

Each is drawn twice, for a screen and for a phone (``canvas.WIDE``, ``canvas.NARROW``); the page shows what fits.
"""
