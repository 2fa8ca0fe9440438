"""Measurements that set two things beside each other in one run. Nothing here is imported by the product."""
