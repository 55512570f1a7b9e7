"""Two pages in the place of a product's own: the API document, and a classroom. Plain HTML and modules, in static/."""
