"""Variational assimilation: the state that a forecast starts from, fitted to the discharge of the last days."""
