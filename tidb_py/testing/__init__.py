"""For users' own tests and scripts: clusters that come and go with the code that needs them."""
