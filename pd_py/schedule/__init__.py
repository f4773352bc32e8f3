"""Scheduling as pure functions of a cluster view: checkers and schedulers propose operators, a controller runs them."""
