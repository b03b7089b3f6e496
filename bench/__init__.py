"""The benchmark: the product's works, the peers' same works, and the machine's limits.

``python -m bench`` runs them all in one go on one machine, because figures of different days
or machines cannot be compared. ``bench/works.py`` says what is measured and what is fair.
Nothing here is needed to run the product, and nothing here is imported by it.
"""
