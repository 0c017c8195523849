"""Images of a body: geometry (`geo`), catalogues (`catalogues`) and scans (`scan`).

Interface: that of the three packages. Everything here needs the extra `[geo]`.
Nothing here trains a network.
"""
