"""Vectorised SQL expressions and operators over Arrow arrays, shared by the stores' coprocessor and the SQL front."""
