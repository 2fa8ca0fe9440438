"""A bundle measured on labelled images: rows, tables, plots and pages."""
