"""Messages of our own, in packages of their own: files and traffic that the public protocol does not define."""
