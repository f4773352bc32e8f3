"""Small services of PD over its replicated store."""
