"""Measurements. The product imports none of this."""
