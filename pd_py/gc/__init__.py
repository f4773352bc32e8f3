"""Which old versions the stores may drop: safe points, and what holds them back."""
