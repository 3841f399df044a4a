"""Loops around scalar steps: tiles of cells with time inside, reaches from the sources down."""
